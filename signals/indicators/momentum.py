"""How fast and how one-sidedly the close moves."""

import numpy as np

from signals.frame import Array
from signals.kernel import compiled
from signals.registry import Period, indicator


@indicator(warmup=lambda period: 32 * period)
def rsi(close: Array, *, period: Period = 14) -> Array:
    """Wilder's relative strength index of the close, 0 … 100; NaN where nothing moved at all."""
    return relative_strength(close, period)


@compiled
def relative_strength(values: Array, period: int) -> Array:
    """Wilder's RSI (New Concepts in Technical Trading Systems, 1978), bit for bit as TA-Lib's.

    The first `period` values are NaN. Without any move the index is 0/0: NaN here, so that a rule
    abstains, where TA-Lib says 0, which would read as oversold.
    """
    result = np.full(len(values), np.nan)
    if len(values) <= period:
        return result
    share = 1.0 / period
    gain = 0.0
    loss = 0.0
    for i in range(1, period + 1):
        change = values[i] - values[i - 1]
        if change < 0.0:
            loss -= change
        else:
            gain += change
    gain *= share
    loss *= share
    if gain + loss > 0.0:
        result[period] = 100.0 * (gain / (gain + loss))
    for i in range(period + 1, len(values)):
        change = values[i] - values[i - 1]
        gain *= period - 1
        loss *= period - 1
        if change < 0.0:
            loss -= change
        else:
            gain += change
        gain *= share
        loss *= share
        if gain + loss > 0.0:
            result[i] = 100.0 * (gain / (gain + loss))
    return result
