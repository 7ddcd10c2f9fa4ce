"""The account that a backtest trades: its capital, what trading costs, and what its market allows."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from backtest.state import FOREVER, MAX_INSTRUMENTS, MAX_LAGS, QUEUES, SLIPPAGES, STATE
from market.decimals import scaled
from market.errors import WrongUse
from market.instrument import MarketType

if TYPE_CHECKING:
    from collections.abc import Sequence

MOST_CAPITAL = 1e15
"""In quote units: what it may grow to must fit into the table, 1e18."""
_MOST_LEVERAGE = 125
_TRADED = (MarketType.SPOT, MarketType.MARGIN, MarketType.LINEAR)


@dataclass(frozen=True, slots=True)
class Account:
    """Capital and costs; a basis point is a hundredth of a percent of the traded amount.

    Attributes:
        capital: at the start, in quote units.
        fee_bps: the taker's fee.
        maker_bps: the maker's fee; the taker's where None.
        slippage_bps: how much worse than the market a market order or a stop fills.
        lot: quantities are rounded down to multiples of it; 0 leaves them as they are.
        market_type: spot (long only), margin (shorts, whole price paid) or linear (profit settled).
        tick: prices are rounded to multiples of it, against the order; 0 leaves them as they are.
        min_notional: quote units that an order which opens or adds must be worth.
        leverage: of a linear market: positions are worth at most so many times the equity.
        maintenance: of a linear market: a position is liquidated where the equity is this fraction of
            its value; one rate for every size.
        slippage: fixed (slippage_bps); spread (half the last known one; fixed until there is one); walk
            (the levels of the stored book; fixed where there is none of the last `book_age` seconds).
        book_age: in seconds.
        queue: pessimistic or pro_rata: a limit order's place in the queue of its price is estimated from
            every change of the order book (see `backtest.queue`); none: it fills on trade-through alone.
        participation: the share of a candle's or trade's volume that fills may take; 0 for all they want.
        feed_ms, order_ms, response_ms: latency of what the strategy hears of the market, of its orders,
            and of what it hears of its fills.
        lags: recorded lags in µs to draw the three from instead, at most 1,024.
        seed: of those draws.
    """

    capital: float = 10_000.0
    fee_bps: float = 10.0
    maker_bps: float | None = None
    slippage_bps: float = 1.0
    lot: float = 1e-8
    market_type: MarketType = MarketType.SPOT
    tick: float = 0.0
    min_notional: float = 0.0
    leverage: float = 1.0
    maintenance: float = 0.0
    slippage: str = "fixed"
    book_age: float = 2.0
    queue: str = "none"
    participation: float = 0.0
    feed_ms: float = 0.0
    order_ms: float = 0.0
    response_ms: float = 0.0
    lags: tuple[int, ...] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.capital <= MOST_CAPITAL:
            raise WrongUse(f"the capital must be above 0 and at most {MOST_CAPITAL:g}, not {self.capital:g}")
        for name, rate in (
            ("fee", self.fee_bps),
            ("maker fee", self.maker_rate * 1e4),
            ("slippage", self.slippage_bps),
        ):
            if not 0 <= rate < 10_000:
                raise WrongUse(f"the {name} must be at least 0 and below 10000 basis points, not {rate:g}")
        for name in ("lot", "tick", "min_notional", "book_age", "feed_ms", "order_ms", "response_ms"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise WrongUse(f"{name} must be at least 0, not {getattr(self, name):g}")
        if self.market_type not in _TRADED:
            raise WrongUse(f"{self.market_type} contracts cannot be backtested yet: use {', '.join(_TRADED)}")
        self._check_model()

    def _check_model(self) -> None:
        if self.market_type is not MarketType.LINEAR and (self.leverage != 1 or self.maintenance):
            raise WrongUse(f"a {self.market_type} market has no leverage here: use the market type linear")
        if not 1 <= self.leverage <= _MOST_LEVERAGE:
            raise WrongUse(f"the leverage must be from 1 to {_MOST_LEVERAGE}, not {self.leverage:g}")
        if not 0 <= self.maintenance < 1 / self.leverage:
            raise WrongUse(
                f"the maintenance must be at least 0 and below 1 / leverage, not {self.maintenance:g}:"
                " it is one rate; tiers of it are not supported"
            )
        if self.slippage not in SLIPPAGES:
            raise WrongUse(f"unknown slippage {self.slippage!r}: use {', '.join(SLIPPAGES)}")
        if self.queue not in QUEUES:
            raise WrongUse(f"unknown queue {self.queue!r}: use {', '.join(QUEUES)}")
        if not 0 <= self.participation <= 1:
            raise WrongUse(f"the participation must be from 0 to 1, not {self.participation:g}")
        if len(self.lags) > MAX_LAGS or any(lag < 0 for lag in self.lags):
            raise WrongUse(f"recorded lags must be at most {MAX_LAGS:,}, each at least 0 µs")

    @property
    def maker_rate(self) -> float:
        """The maker's fee as a fraction of the amount."""
        return (self.fee_bps if self.maker_bps is None else self.maker_bps) / 1e4

    def state(self, instruments: Sequence[Terms] = (), *, most_open: int = 0) -> npt.NDArray[np.void]:
        """A fresh state for the kernel: one record, flat, before any event.

        Args:
            instruments: what differs from the account's costs and steps, one for each instrument in order
                of their symbols; nothing for a single one.
            most_open: positions at once, 0 for any number.

        Raises:
            WrongUse: more instruments than the kernel holds.
        """
        return _state(self, tuple(instruments) or (Terms(),), most_open).copy().view(STATE)


@dataclass(frozen=True, slots=True)
class Terms:
    """What an instrument has of its own; None: as the account says."""

    fee_bps: float | None = None
    maker_bps: float | None = None
    slippage_bps: float | None = None
    lot: float | None = None
    tick: float | None = None
    min_notional: float | None = None


@lru_cache(maxsize=16)
def _state(account: Account, terms: tuple[Terms, ...], most_open: int) -> npt.NDArray[np.uint8]:
    """What runs of one account begin with: filled in once, copied by each as so many bytes."""
    if len(terms) > MAX_INSTRUMENTS:
        raise WrongUse(f"at most {MAX_INSTRUMENTS} instruments at once, not {len(terms)}")
    state = np.zeros(1, dtype=STATE)
    state["initial"] = state["cash"] = account.capital
    state["linear"] = account.market_type is MarketType.LINEAR
    state["shorts"] = account.market_type is not MarketType.SPOT
    state["leverage"], state["maintenance"] = account.leverage, account.maintenance
    state["slippage"] = SLIPPAGES.index(account.slippage)
    state["queue"] = QUEUES.index(account.queue)
    state["book_age"] = round(account.book_age * 1e6)
    state["participation"] = account.participation
    for name in ("feed", "order", "response"):
        state[name] = round(getattr(account, f"{name}_ms") * 1e3)
    state["lag_count"] = len(account.lags)
    state["lags"][0, : len(account.lags)] = account.lags
    state["random"] = account.seed % 2**64
    state["most_open"] = most_open
    state["wake_at"] = FOREVER
    state["instrument_count"] = len(terms)
    for number, each in enumerate(terms):
        _fill_in(state["instruments"][0][number], account, each)
    return state.view(np.uint8)


def _fill_in(record: Any, account: Account, terms: Terms) -> None:
    """Write what stays of one instrument."""
    given = {name: value for name, value in asdict(terms).items() if value is not None}
    costs = replace(account, **given) if given else account
    record["taker"] = costs.fee_bps / 1e4
    record["maker"] = costs.maker_rate
    record["slippage"] = costs.slippage_bps / 1e4
    record["least"] = costs.min_notional
    for name in ("lot", "tick"):
        digits, scale = scaled(float(getattr(costs, name)))
        record[f"{name}_digits"], record[f"{name}_scale"] = digits, 10**scale
