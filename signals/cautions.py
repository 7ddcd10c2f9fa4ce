"""Warnings: what a reader of a signal should mind, with the numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from signals.blocks import Pass
    from signals.options import Cautions
    from signals.rules import Values


def warnings_of(
    part: Pass,
    i: int,
    values: Values,
    silent: Sequence[str],
    against: Mapping[str, float],
    cautions: Cautions,
) -> Iterator[str]:
    """The warnings of one candle.

    Args:
        part: the pass that computed it.
        i: its index in the pass.
        values: the numbers cited for it, NaN where unknown.
        silent: kinds of the rules that abstained.
        against: higher timeframes that clearly say the opposite, each with its score.
        cautions: the limits.
    """
    yield from _data(part, i, cautions)
    yield from _market(values, cautions)
    if np.isnan(part.frame.imbalance_mean[i]):
        yield "no book inside the candle"
    if np.isnan(part.frame.buy_volume[i]):
        yield "no order flow: buy and sell volume of the candle are not known"
    for name, score in against.items():
        yield f"conflicting timeframes: {name} candles score {score:+.2f}"
    if silent:
        yield f"without an opinion: {', '.join(silent)}"


def _data(part: Pass, i: int, cautions: Cautions) -> Iterator[str]:
    if not part.frame.is_whole[i]:
        yield "the candle is not whole: part of it lies in a hole of the tape"
    # A pass begins at a hole or a whole warm-up before its block, so this does not depend on where
    # the frame begins.
    if i < cautions.young_candles:
        yield f"hole in the data, or its beginning, only {i + 1} candles ago"


def _market(values: Values, cautions: Cautions) -> Iterator[str]:
    volume = values["relative_volume_20"]
    if volume < cautions.thin_volume:
        yield f"thin volume: {volume:.2f} times the mean of the 20 candles before"
    swing = values["atr_14"] / values["atr_50"] if values["atr_50"] > 0 else np.nan
    if swing > cautions.high_volatility:
        yield f"high volatility: ATR(14) is {swing:.1f} times ATR(50)"
    spread = values["spread_bps_mean"]
    if spread > cautions.wide_spread_bps:
        yield f"wide spread: {spread:.1f} bps on average"
