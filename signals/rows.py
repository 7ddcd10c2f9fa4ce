"""From evaluated candles to the rows of `signals`: one where a strategy's type changes. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from signals.calibration import cut_before
from signals.engine import (
    CODES,
    NO_HIGHER,
    TYPES,
    UNDEFINED,
    Explanation,
    SignalSeries,
    SignalType,
    explain,
    level,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from signals.calibration import Calibration
    from signals.engine import Types
    from signals.frame import CandleFrame
    from signals.higher import Higher
    from signals.options import Thresholds
    from signals.strategies import Strategy

UNCALIBRATED = "uncalibrated: confidence is 100 times |score|, its level stays LOW"


@dataclass(frozen=True, slots=True)
class SignalRow:
    """One row of `signals`, without its key, revision and id.

    Attributes:
        timestamp: close time of the candle, microseconds UTC.
        signal_type: the new type.
        confidence_score: 0 … 100: the chance to be right, in percent, as the calibration says it; without
            one 100 times |score|.
        confidence_level: LOW, MEDIUM or HIGH; LOW without a calibration.
        calibration_id: the calibration's row, None without one.
        score: -1 … 1.
        price: the candle's close.
        cvd: the day's CVD at the close, where it is known.
        orderbook_imbalance: the last one inside the candle, else the mean, percent, where known.
        reasons, warnings: for people.
        indicators: the numbers behind them.
        metadata: each rule's contribution to the score.
    """

    timestamp: int
    signal_type: str
    confidence_score: float
    confidence_level: str
    calibration_id: int | None
    score: float
    price: float
    cvd: float | None
    orderbook_imbalance: float | None
    reasons: list[str]
    warnings: list[str]
    indicators: dict[str, float]
    metadata: dict[str, dict[str, float]]


def changes(types: Types, last: SignalType | None) -> list[int]:
    """Where the type differs from the defined one before; the first defined one is a change.

    Args:
        types: type codes in order.
        last: the last defined type before them, None where there is none.
    """
    defined = np.flatnonzero(types != UNDEFINED)
    if not len(defined):
        return []
    before = np.concatenate(([UNDEFINED if last is None else CODES[last]], types[defined][:-1]))
    found: list[int] = defined[types[defined] != before].tolist()
    return found


def last_type(types: Types) -> SignalType | None:
    """The last defined type, None where there is none."""
    defined = types[types != UNDEFINED]
    return TYPES[int(defined[-1])] if len(defined) else None


def signal_rows(
    strategy: Strategy,
    frame: CandleFrame,
    start: int,
    series: SignalSeries,
    last: SignalType | None,
    higher: Higher = NO_HIGHER,
    *,
    is_explained: bool = True,
) -> list[SignalRow]:
    """The rows that the candles of `frame` from index `start` on call for, in order.

    Args:
        strategy: what was evaluated.
        frame: its candles, with what they depend on before `start`.
        start: index of the first candle evaluated.
        series: the strategy's signals from there on.
        last: the last defined type before them.
        higher: the higher candles that it was evaluated with.
        is_explained: whether they say why.
    """
    found = changes(series.type, last)
    if is_explained:
        explanations = explain(strategy, frame, [start + i for i in found], higher)
    else:
        explanations = [Explanation((), (), {}, {})] * len(found)
    return [
        _row(strategy, frame, start + i, float(series.score[i]), int(series.type[i]), why)
        for i, why in zip(found, explanations, strict=True)
    ]


def calibrated(
    rows: Iterable[SignalRow], calibrations: Mapping[int, Calibration], thresholds: Thresholds
) -> list[SignalRow]:
    """The rows with the confidence of the calibration in force: that of the latest cut before each.

    A NEUTRAL one says nothing that could be right, and stays as it is; so does one whose cut has none.

    Args:
        rows: as `signal_rows` gives them, uncalibrated.
        calibrations: by cut, microseconds UTC.
        thresholds: from confidence to level.
    """
    return [_calibrated(row, calibrations.get(cut_before(row.timestamp)), thresholds) for row in rows]


def _calibrated(row: SignalRow, calibration: Calibration | None, thresholds: Thresholds) -> SignalRow:
    if calibration is None or row.signal_type == SignalType.NEUTRAL:
        return row
    confidence = calibration.confidence(row.score)
    return replace(
        row,
        confidence_score=confidence,
        confidence_level=level(confidence, thresholds, is_calibrated=True),
        calibration_id=calibration.id,
        warnings=[warning for warning in row.warnings if warning != UNCALIBRATED],
    )


def _row(
    strategy: Strategy, frame: CandleFrame, bar: int, score: float, code: int, why: Explanation
) -> SignalRow:
    confidence = 100.0 * abs(score)
    return SignalRow(
        timestamp=int(frame.timestamp[bar]) + frame.timeframe.microseconds,
        signal_type=TYPES[code].value,
        confidence_score=confidence,
        confidence_level=level(confidence, strategy.thresholds, is_calibrated=False),
        calibration_id=None,
        score=score,
        price=float(frame.close[bar]),
        cvd=_known(frame.cvd_close[bar]),
        orderbook_imbalance=_known(frame.imbalance_last[bar], frame.imbalance_mean[bar]),
        reasons=list(why.reasons),
        warnings=[*why.warnings, UNCALIBRATED],
        indicators=why.values,
        metadata={"contributions": why.contributions},
    )


def _known(*values: float) -> float | None:
    """The first value that is known."""
    return next((float(value) for value in values if not np.isnan(value)), None)
