"""How good signals were: how often right, how far prices went their way, and which reasons earn.

Only the newest revision of a signal counts, and of each strategy only the configuration that gave its newest
one. Moves are signed by the signal's direction and net of a round trip's costs, in basis points. Signals of
one market whose horizons overlap share part of their move: a band counts only those that do not.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np
from psycopg import sql

from market.timeframe import Timeframe
from signals.measures import apart, information_coefficient, wilson
from signals.options import HORIZON
from signals.outcomes import ROUND_TRIP, direction

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from signals.frame import Array, Flags, Indices
    from storage.database import Connection

Series = tuple[str, str]
"""A strategy's name and the timeframe of its candles."""

_JUDGED = """
WITH newest AS (
    SELECT DISTINCT ON (strategy_name) strategy_name, config_hash FROM signals
    ORDER BY strategy_name, id DESC),
signal AS (
    SELECT DISTINCT ON (strategy_name, exchange, symbol, interval, timestamp) *
    FROM signals JOIN newest USING (strategy_name, config_hash) WHERE {where}
    ORDER BY strategy_name, exchange, symbol, interval, timestamp, revision DESC)
SELECT strategy_name, interval, (extract(epoch FROM horizon) * 1000000)::bigint AS horizon,
    exchange || ' ' || symbol AS market, (extract(epoch FROM timestamp) * 1000000)::bigint AS moment,
    signal_type, confidence_level, confidence_score, calibration_id IS NOT NULL,
    score, return_net, is_right, metadata -> 'contributions'
FROM signal JOIN signal_outcomes AS outcome ON outcome.signal_id = signal.id WHERE NOT is_withdrawn
ORDER BY strategy_name, interval, horizon, market, moment
"""
_TYPES = ("STRONG_BUY", "BUY", "SELL", "STRONG_SELL")
_LEVELS = ("HIGH", "MEDIUM", "LOW")
_MOST_POINTS = 8
_FEWEST_IN_POINT = 50


@dataclass(frozen=True, slots=True)
class Selected:
    """Whose signals; what is None is not restricted."""

    strategy: str | None = None
    exchange: str | None = None
    symbol: str | None = None
    interval: Timeframe | None = None


@dataclass(frozen=True, slots=True)
class Share:
    """What became of some signals of one strategy and timeframe at one horizon.

    Attributes:
        strategy: its name.
        interval: the timeframe of its candles.
        horizon: in candles.
        name: what they have in common: a type, a level, a rule, or `all`.
        signals: how many.
        right: how many of them were right.
        apart: how many do not overlap another one.
        hit_rate: right / signals.
        low, high: the 95% band of the hit rate, as of `apart` signals.
        average_bps: mean net return, basis points.
    """

    strategy: str
    interval: str
    horizon: int
    name: str
    signals: int
    right: int
    apart: int
    hit_rate: float
    low: float
    high: float
    average_bps: float


@dataclass(frozen=True, slots=True)
class Information:
    """The information coefficient of one strategy and timeframe at one horizon.

    Attributes:
        strategy, interval, horizon: whose.
        value: rank correlation of scores and moves, None where there are too few.
        band: scores that know nothing lie within ± this 95 times of 100.
        samples: signals whose horizons do not overlap.
    """

    strategy: str
    interval: str
    horizon: int
    value: float | None
    band: float | None
    samples: int


@dataclass(frozen=True, slots=True)
class Point:
    """Calibrated signals of about the same confidence, none of which overlaps another.

    All of them came after their calibration was fitted.

    Attributes:
        strategy, interval: whose.
        promised: their mean confidence, as a share.
        signals, right, hit_rate, low, high: what became of them, as in `Share`.
        is_inside: whether what was promised lies within the band.
    """

    strategy: str
    interval: str
    promised: float
    signals: int
    right: int
    hit_rate: float
    low: float
    high: float
    is_inside: bool


@dataclass(frozen=True, slots=True)
class Quality:
    """Everything that is known about how good signals were.

    Attributes:
        decay: all signals by horizon.
        types, levels, reasons: by type, confidence level and rule, at every horizon.
        information: information coefficients by horizon.
        calibration: promised against found, at the horizon that confidence is about.
    """

    decay: list[Share]
    types: list[Share]
    levels: list[Share]
    reasons: list[Share]
    information: list[Information]
    calibration: list[Point]

    @property
    def series(self) -> list[Series]:
        """Strategies and timeframes of which outcomes are known, in order."""
        return list(dict.fromkeys((each.strategy, each.interval) for each in self.decay))


@dataclass(frozen=True, slots=True, eq=False)
class _Group:
    """All outcomes of one strategy and timeframe at one horizon, by market and time.

    Attributes:
        strategy, interval, horizon: whose.
        length: of the horizon, microseconds.
        moment: rises by at least `length` from one market to the next.
        kind, level, contributions: of each signal.
        confidence, is_calibrated, score, returns, is_right: of each signal.
    """

    strategy: str
    interval: str
    horizon: int
    length: int
    moment: Indices
    kind: Sequence[str]
    level: Sequence[str]
    contributions: Sequence[Mapping[str, float]]
    confidence: Array
    is_calibrated: Flags
    score: Array
    returns: Array
    is_right: Flags


def measure(connection: Connection, selected: Selected) -> Quality:
    """The quality of the selected signals whose outcomes are known.

    Args:
        connection: the database.
        selected: whose signals.
    """
    found = Quality([], [], [], [], [], [])
    for group in _read(connection, selected):
        found.decay.append(_share(group, "all", np.arange(len(group.score))))
        found.types.extend(_shares(group, _places(group.kind), _TYPES))
        found.levels.extend(_shares(group, _places(group.level), _LEVELS))
        reasons = _shares(group, _arguments(group))
        found.reasons.extend(sorted(reasons, key=lambda share: -share.average_bps))
        found.information.append(_information(group))
        if group.horizon == HORIZON:
            found.calibration.extend(_curve(group))
    return found


def _read(connection: Connection, selected: Selected) -> list[_Group]:
    wanted = {
        "strategy_name": selected.strategy,
        "exchange": selected.exchange,
        "symbol": selected.symbol,
        "interval": selected.interval and selected.interval.value,
    }
    conditions: list[sql.Composable] = [
        sql.SQL("{} = {}").format(sql.Identifier(name), sql.Literal(value))
        for name, value in wanted.items()
        if value is not None
    ]
    where = sql.SQL(" AND ").join(conditions or [sql.SQL("true")])
    with connection.cursor(binary=True) as cursor:
        rows = cursor.execute(sql.SQL(_JUDGED).format(where=where)).fetchall()
    groups = [_group(list(part)) for _, part in groupby(rows, key=lambda row: row[:3])]
    return sorted(groups, key=lambda group: (group.strategy, Timeframe(group.interval).microseconds))


def _group(rows: Sequence[tuple[Any, ...]]) -> _Group:
    """The group of rows that agree in strategy, interval and horizon."""
    strategy, interval, length = rows[0][:3]
    market, moments, kind, level, *numbers, is_right, contributions = zip(
        *(row[3:] for row in rows), strict=True
    )
    moment = np.array(moments, dtype=np.int64)
    _, place = np.unique(market, return_inverse=True)
    moment = moment - moment.min() + place * (int(np.ptp(moment)) + length)
    confidence, is_calibrated, score, returns = map(np.array, numbers)
    return _Group(
        strategy,
        interval,
        length // Timeframe(interval).microseconds,
        length,
        moment,
        kind,
        level,
        [each or {} for each in contributions],
        confidence,
        is_calibrated,
        score,
        returns,
        np.array(is_right),
    )


def _places(labels: Sequence[str]) -> dict[str, Indices]:
    """Where each label stands."""
    found = np.array(labels)
    return {str(label): np.flatnonzero(found == label) for label in np.unique(found)}


def _arguments(group: _Group) -> dict[str, Indices]:
    """Which signals each rule argued for, and which it argued against and was outvoted."""
    found: dict[str, list[int]] = {}
    for i, (contributions, score) in enumerate(zip(group.contributions, group.score.tolist(), strict=True)):
        for rule, share in contributions.items():
            if share:
                name = rule if (share > 0) == (score > 0) else f"{rule} (against)"
                found.setdefault(name, []).append(i)
    return {name: np.array(places, dtype=np.int64) for name, places in found.items()}


def _shares(group: _Group, places: Mapping[str, Indices], order: Sequence[str] = ()) -> list[Share]:
    return [_share(group, name, places[name]) for name in order or sorted(places) if name in places]


def _share(group: _Group, name: str, places: Indices) -> Share:
    count, right = len(places), int(group.is_right[places].sum())
    independent = len(apart(group.moment[places], group.length))
    low, high = wilson(right / count, independent)
    average = 1e4 * float(group.returns[places].mean())
    whose = (group.strategy, group.interval, group.horizon)
    return Share(*whose, name, count, right, independent, right / count, low, high, average)


def _information(group: _Group) -> Information:
    taken = apart(group.moment, group.length)
    moves = direction([group.kind[i] for i in taken]) * (group.returns[taken] + ROUND_TRIP)
    found = information_coefficient(group.score[taken], moves)
    return Information(group.strategy, group.interval, group.horizon, found.value, found.band, found.count)


def _curve(group: _Group) -> Iterator[Point]:
    calibrated = np.flatnonzero(group.is_calibrated)
    taken = calibrated[apart(group.moment[calibrated], group.length)]
    if not len(taken):
        return
    confidence = group.confidence[taken]
    wanted = min(max(len(taken) // _FEWEST_IN_POINT, 1), _MOST_POINTS)
    lowest = np.unique(np.quantile(confidence, np.arange(wanted) / wanted, method="lower"))
    points = np.searchsorted(lowest, confidence, side="right") - 1
    for each in range(len(lowest)):
        inside = taken[points == each]
        promised = float(group.confidence[inside].mean()) / 100.0
        count, right = len(inside), int(group.is_right[inside].sum())
        low, high = wilson(right / count, count)
        is_inside = low <= promised <= high
        yield Point(
            group.strategy, group.interval, promised, count, right, right / count, low, high, is_inside
        )
