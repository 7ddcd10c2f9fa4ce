"""Markets out of recordings: every trade and every change of their books, in the kernel's words."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from backtest.account import Terms
from backtest.feeds import Source
from backtest.frames import candles_of_trades
from backtest.state import FOREVER
from backtest.tape import Depth, Trades
from market.errors import WrongUse
from market.instrument import MarketType
from market.timeframe import Timeframe

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from backtest.account import Account

INSIDE = "recording"
"""What `sources` of a setup say of such a run."""


@dataclass(frozen=True, slots=True, eq=False)
class Recording:
    """What was recorded of one instrument.

    Attributes:
        exchange, symbol: what was recorded.
        trades: every trade, in the order of time.
        depth: every change of its book.
        market_type: how it is settled.
        terms: its steps: those of the exchange's list in a recording, the tick of a file's own prices.
        files: SHA-256 of each file by its path.
        notes: what is not whole in them, such as files that break off, in words.
    """

    exchange: str
    symbol: str
    trades: Trades = field(repr=False)
    depth: Depth = field(repr=False)
    market_type: MarketType = MarketType.SPOT
    terms: Terms = field(default_factory=Terms)
    files: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def source(
        self, timeframe: Timeframe | str | None = None, since: int | None = None, until: int | None = None
    ) -> Source:
        """The instrument of a run: every trade and change happens, and candles are made of the trades.

        Args:
            timeframe: of the candles, of minutes unless told otherwise.
            since: the first candle opens then or later, µs.
            until: the last one opens before.

        Raises:
            WrongUse: nothing was traded then.
        """
        length = Timeframe.parse(timeframe or Timeframe.M1)
        opens = self.trades.timestamp - self.trades.timestamp % length.microseconds
        kept = (opens >= (since or 0)) & (opens < (FOREVER if until is None else until))
        if not kept.any():
            raise WrongUse(f"no trade of {self.symbol} is in this part of the recording")
        time, price, size, side = self.trades
        trades = Trades(time[kept], price[kept], size[kept], side[kept])
        frame = candles_of_trades(trades, length)
        return Source(
            self.symbol,
            frame,
            trades,
            depth=_within(self.depth, int(frame.timestamp[0]), int(frame.close_time[-1])),
            terms=self.terms,
            is_ticks=True,
        )


def told(tapes: Sequence[Recording]) -> dict[str, Any]:
    """What a run over them rests on, as plain data: a reproduction reads the same again."""
    steps = {
        tape.symbol: {name: value for name, value in asdict(tape.terms).items() if value is not None}
        for tape in tapes
    }
    return {
        "inside": INSIDE,
        "recording": {path: known for tape in tapes for path, known in tape.files.items()},
        "terms": {symbol: known for symbol, known in steps.items() if known},
    }


def _within(depth: Depth, begin: int, end: int) -> Depth:
    """The changes of a span; those from before make the book that it begins with."""
    time, side, price, size, bid, ask = depth
    kept = int(np.searchsorted(time, end))
    time = np.maximum(time[:kept], begin)
    return Depth(time, side[:kept], price[:kept], size[:kept], bid[:kept], ask[:kept])


def check(account: Account) -> None:
    """Refuse what a recording does not give.

    Raises:
        WrongUse: slippage is to walk stored snapshots.
    """
    if account.slippage == "walk":
        raise WrongUse("the book of a recording is not walked: slippage is spread or fixed:BPS there")
