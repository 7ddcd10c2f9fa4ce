"""Machine code made before it is needed: every shipped strategy over a few candles, and one over trades."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from backtest.compiled import cache_folder
from backtest.feeds import Source
from backtest.frames import candles_of
from backtest.outcomes import ran
from backtest.run import run, run_markets
from backtest.setup import setup
from backtest.strategies import names
from backtest.tape import Trades

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from backtest.result import Result

_CANDLES = 300


def warm_up(progress: Callable[[str], None] = lambda _: None) -> Path | None:
    """Fill the caches of compiled loops, and give the backtests' folder; None where none can be written.

    Args:
        progress: told each strategy's name before its turn.
    """
    # Up and down, so that each trades; bought and sold, so that what follows the flow does too.
    close = 100.0 + 5.0 * np.sin(np.arange(_CANDLES) / 9.0) + np.arange(_CANDLES) % 7
    open_ = np.r_[100.0, close[:-1]]
    bought = 1.0 + np.cos(np.arange(_CANDLES) / 5.0)
    frame = candles_of(
        {
            "timestamp": np.arange(_CANDLES) * 3_600,
            "open": open_,
            "high": np.maximum(open_, close),
            "low": np.minimum(open_, close),
            "close": close,
            "volume": np.full(_CANDLES, 2.0),
            "buy_volume": bought,
            "sell_volume": 2.0 - bought,
        }
    )
    for name in names():
        progress(name)
        _look_at(run(frame, name))
    progress("a run over trades")
    trades = Trades(frame.timestamp, frame.close, frame.volume)
    _look_at(run_markets(setup("ema_cross"), [Source("", frame, trades)]))
    progress("a sweep")
    ran(Source("", frame), [setup("ema_cross")])
    return cache_folder()


def _look_at(result: Result) -> None:
    """What people do with a result."""
    str(result)
    result.day_columns()
