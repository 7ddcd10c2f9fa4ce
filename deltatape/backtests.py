"""What `import deltatape as dt` gives of backtests; imports nothing that they do not need."""

from __future__ import annotations

import gc
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from backtest.own_policies import OwnPolicy
    from backtest.recordings import Recording
    from backtest.result import Result

__all__ = ["backtest", "policy", "recording", "save"]


def backtest(frame: Any, strategy: Any, exits: Any = None, **options: Any) -> Result:
    """Backtest over candles of any make; nothing is stored. See `backtest.doors.backtest`.

    Args:
        frame: polars, pandas or numpy: times, open, high, low, close and, where known, volume; such tables
            by symbol, which share the cash; a table of trades; or a `recording`.
        strategy: entries (a truth value for each candle), a class, a `policy`, or a name: of one that ships,
            or of one of the settings.
        exits: a truth value for each candle, where `strategy` are entries.
        **options: timeframe, exchange, symbol; trades, finer, books, funding; capital and costs; the policy's
            and the strategy's parameters.

    Raises:
        WrongUse: the candles cannot have been, or what was asked for makes no sense.
    """
    _load()
    from backtest import doors
    from backtest.strategies import STRATEGIES, find

    if isinstance(strategy, str) and strategy not in STRATEGIES:
        from deltatape import settings

        strategy = find(strategy, settings.load().signals)
    return doors.backtest(frame, strategy, exits, **options)


def policy(**fields: float) -> Callable[[Callable[..., None]], OwnPolicy]:
    """A decorator that makes a policy of a function of every event. See `backtest.own_policies.policy`."""
    from backtest import own_policies

    return own_policies.policy(**fields)


def recording(files: Sequence[Path | str], exchange: str, symbol: str) -> Recording:
    """One market out of recordings, or files of trades and book changes, with places in queues.

    See `deltatape.recordings.recording`.

    Raises:
        WrongUse: a file cannot be read, or nothing of the symbol is in them.
    """
    from deltatape import recordings

    return recordings.recording(files, exchange, symbol)


def save(result: Result) -> str:
    """Store a result in the database of the settings, as `deltatape backtest run` does, and give its id.

    Raises:
        WrongUse: it does not say whose candles it ran on (exchange=, symbol=).
        Unavailable: the database does not answer.
    """
    from backtest import store
    from deltatape import settings
    from storage.database import connect

    with connect(settings.load().database()) as connection:
        return str(store.save(connection, result))


@cache
def _load() -> None:
    """Import it once, without a search for garbage in all of it, again and again, as it grows: it stays."""
    collects, frozen = gc.isenabled(), gc.get_freeze_count()
    gc.disable()
    try:
        import backtest.doors  # noqa: F401
    finally:
        if not frozen:
            # Both together make everything old, so that the next search does not go through it either.
            gc.freeze()
            gc.unfreeze()
        if collects:
            gc.enable()
