"""How fast and how one-sidedly the close moves."""

import numpy as np

from signals.frame import Array
from signals.kernel import compiled
from signals.registry import Period, indicator


@indicator(warmup=lambda period: 32 * period, state=lambda period: 4)
def rsi(close: Array, state: Array, *, period: Period = 14) -> Array:
    """Wilder's relative strength index of the close, 0 … 100; NaN where nothing moved at all."""
    return relative_strength(close, state, period)


@compiled
def relative_strength(values: Array, state: Array, period: int) -> Array:
    """Wilder's RSI (New Concepts in Technical Trading Systems, 1978), bit for bit as TA-Lib's.

    The first `period` values are NaN. Without any move the index is 0/0: NaN here, so that a rule
    abstains, where TA-Lib says 0, which would read as oversold.

    Args:
        values: of which.
        state: 4 numbers, zeros at first: how many values there were, the last one, and the gains and losses.
        period: candles.
    """
    result = np.full(len(values), np.nan)
    share = 1.0 / period
    seen, last, gain, loss = int(state[0]), state[1], state[2], state[3]
    for i in range(len(values)):
        change = values[i] - last if seen > 0 else 0.0
        if seen > period:
            gain *= period - 1
            loss *= period - 1
        if change < 0.0:
            loss -= change
        else:
            gain += change
        if seen >= period:
            gain *= share
            loss *= share
            if gain + loss > 0.0:
                result[i] = 100.0 * (gain / (gain + loss))
        last = values[i]
        seen += 1
    state[0], state[1], state[2], state[3] = seen, last, gain, loss
    return result
