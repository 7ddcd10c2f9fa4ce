"""Machine code made before it is needed: every shipped strategy once, over a few candles."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from backtest.compiled import cache_folder
from backtest.frames import candles_of
from backtest.result import Result
from backtest.run import execute
from backtest.setup import setup
from backtest.strategies import names

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

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
        chosen = setup(name)
        record, metrics = execute(chosen, frame, curve=True)
        str(Result(chosen, frame, metrics, record))
    return cache_folder()
