"""What became of signals: the return of each from its first legal fill to the end of several horizons.

A signal becomes known at T, the close of its candle; the next candle opens at T, and that open is its first
legal fill. A horizon of n candles ends at the close of the n-th one from there. The return is signed by the
signal's direction and net of a round trip's costs. A NEUTRAL signal has no direction and no outcome; nor has
one whose fill or whose horizon's last candle lies in a hole, until the hole is healed.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

import numpy as np

from market.timeframe import to_datetime
from signals.engine import CODES, SignalType
from signals.target import columns

if TYPE_CHECKING:
    from collections.abc import Sequence

    from signals.frame import Array, CandleFrame, Indices
    from signals.store import Span
    from signals.target import Target
    from storage.database import Connection

ROUND_TRIP = 0.0022
"""Two fills at the default costs of a backtest: a fee of 10 basis points and 1 of slippage each."""

# OFFSET 0: a step of the index for each key, never a join with all signals.
_SIGNALS = """
SELECT place, signal.* FROM unnest(%s::int[], %s::text[], %s::text[], %s::text[], %s::text[], %s::text[],
    %s::timestamptz[], %s::timestamptz[]) AS key
    (place, strategy_name, config_hash, exchange, symbol, interval, since, until),
LATERAL (
    SELECT id, (extract(epoch FROM timestamp) * 1000000)::bigint, signal_type FROM signals
    WHERE signals.strategy_name = key.strategy_name AND signals.config_hash = key.config_hash
        AND signals.exchange = key.exchange AND signals.symbol = key.symbol
        AND signals.interval = key.interval AND timestamp >= since AND timestamp <= until
        AND signal_type <> 'NEUTRAL' AND NOT is_withdrawn
    OFFSET 0) signal
"""

_PRICES = """
SELECT (extract(epoch FROM timestamp) * 1000000)::bigint, open, close FROM candles
WHERE exchange = %s AND symbol = %s AND interval = %s AND timestamp >= %s AND timestamp <= %s
    AND timestamp = ANY(%s) AND is_closed ORDER BY timestamp
"""

_WRITE = """
INSERT INTO signal_outcomes (signal_id, horizon, outcome_timestamp, return_net, is_right)
SELECT *, return_net > 0 FROM unnest(%s::bigint[], %s::interval[], %s::timestamptz[], %s::float8[])
    AS outcome (signal_id, horizon, outcome_timestamp, return_net)
ON CONFLICT (signal_id, horizon) DO UPDATE
    SET (return_net, is_right) = (excluded.return_net, excluded.is_right)
    WHERE signal_outcomes.return_net <> excluded.return_net
"""

_DELETE = """
DELETE FROM signal_outcomes WHERE (signal_id, horizon) IN (SELECT * FROM unnest(%s::bigint[], %s::interval[]))
"""


@dataclass(frozen=True, slots=True, eq=False)
class Prices:
    """Closed candles: open times (microseconds UTC, ascending), opens and closes."""

    timestamp: Indices
    open: Array
    close: Array


@dataclass(frozen=True, slots=True)
class _Due:
    """A signal at one horizon, in candles of so many microseconds."""

    id: int
    timestamp: int
    signal_type: str
    horizon: int
    candle: int

    @property
    def length(self) -> timedelta:
        """Of the horizon."""
        return timedelta(microseconds=self.horizon * self.candle)

    @property
    def end(self) -> int:
        """Of the horizon, microseconds UTC."""
        return self.timestamp + self.horizon * self.candle


def direction(types: Sequence[str]) -> Array:
    """1 where a type buys, -1 where it sells, 0 where it is NEUTRAL."""
    return np.array([np.sign(CODES[SignalType(kind)]) for kind in types], dtype=np.float64)


def net_returns(prices: Prices, at: Indices, signs: Array, horizon: Indices | int, length: int) -> Array:
    """The outcomes of signals; NaN where the fill's candle or the horizon's last one is not there.

    Args:
        prices: candles, a superset of those needed.
        at: when each signal became known, microseconds UTC.
        signs: 1 for a signal that buys, -1 for one that sells.
        horizon: candles from the fill on.
        length: of a candle, microseconds.
    """
    bought, sold = _at(prices, at), _at(prices, at + (horizon - 1) * length)
    is_known = (bought >= 0) & (sold >= 0)
    returns = np.full(len(at), np.nan)
    moves = prices.close[sold[is_known]] / prices.open[bought[is_known]] - 1.0
    returns[is_known] = signs[is_known] * moves - ROUND_TRIP
    return returns


@dataclass(frozen=True, slots=True, eq=False)
class Ended:
    """Candles at which horizons end.

    Attributes:
        span: the candles, and whose signals.
        horizons: in candles.
        frame: the newest candles, where they have been read already and none lies after the span.
    """

    span: Span
    horizons: tuple[int, ...]
    frame: CandleFrame | None = None


def settle(connection: Connection, spans: Sequence[Ended]) -> None:
    """Make outcomes equal to today's tape wherever they touch the candles of some spans.

    Called in the transaction that evaluates those candles, for new ones and for revised ones alike: so each
    outcome is written when its horizon has ended, once, and again only where the tape says otherwise now.

    Args:
        connection: its transaction is the caller's.
        spans: which.
    """
    known: list[tuple[_Due, float]] = []
    gone: list[_Due] = []
    for ended, due in zip(spans, _due(connection, spans), strict=True):
        for each, value in zip(due, _returns(connection, ended, due), strict=True):
            if np.isnan(value):
                gone.append(each)
            else:
                known.append((each, value))
    if known:
        _write(connection, known)
    if gone:
        connection.execute(_DELETE, ([each.id for each in gone], [each.length for each in gone]))


def _returns(connection: Connection, ended: Ended, due: Sequence[_Due]) -> list[float]:
    """What became of each; NaN where that is not known."""
    if not due:
        return []
    frame, target = ended.frame, ended.span.key.target
    length = target.timeframe.microseconds
    at = np.array([each.timestamp for each in due], dtype=np.int64)
    horizon = np.array([each.horizon for each in due], dtype=np.int64)
    if frame is not None and len(frame) and frame.timestamp[0] <= at.min():
        prices = Prices(frame.timestamp, frame.open, frame.close)
    else:
        prices = _read_prices(connection, target, np.union1d(at, at + (horizon - 1) * length))
    signs = direction([each.signal_type for each in due])
    found: list[float] = net_returns(prices, at, signs, horizon, length).tolist()
    return found


def _at(prices: Prices, times: Indices) -> Indices:
    """The index of the candle that opens at each of `times`; -1 where there is none."""
    if not len(prices.timestamp):
        return np.full(len(times), -1, dtype=np.int64)
    places = np.minimum(np.searchsorted(prices.timestamp, times), len(prices.timestamp) - 1)
    return np.where(prices.timestamp[places] == times, places, -1)


def _due(connection: Connection, spans: Sequence[Ended]) -> list[list[_Due]]:
    """Of each span, signals at horizons whose last candle lies in it; of older candles all since it."""
    found: list[list[_Due]] = [[] for _ in spans]
    wanted = [
        (place, *ended.span.key.values, to_datetime(since), to_datetime(until))
        for place, ended in enumerate(spans)
        for since, until in _windows(ended)
    ]
    for place, number, timestamp, signal_type in connection.execute(_SIGNALS, columns(wanted, 8)):
        ended = spans[place]
        span, length = ended.span, ended.span.key.target.timeframe.microseconds
        found[place] += [
            _Due(number, timestamp, signal_type, horizon, length)
            for horizon in ended.horizons
            if span.start <= timestamp + (horizon - 1) * length < span.end
            or (timestamp >= span.start and ended.frame is None)
        ]
    return found


def _windows(ended: Ended) -> list[tuple[int, int]]:
    """From when to when signals may be due, both included: one candle has few moments of a long time."""
    start, end = ended.span.start, ended.span.end
    length = ended.span.key.target.timeframe.microseconds
    windows = [(start - (horizon - 1) * length, end - horizon * length) for horizon in ended.horizons]
    if ended.frame is None:
        windows.append((start, end))
    merged: list[tuple[int, int]] = []
    for since, until in sorted(windows):
        if merged and since <= merged[-1][1]:
            merged[-1] = merged[-1][0], max(until, merged[-1][1])
        else:
            merged.append((since, until))
    return merged


def _read_prices(connection: Connection, target: Target, times: Indices) -> Prices:
    wanted = [to_datetime(int(time)) for time in times]
    place = (target.exchange, target.symbol, target.timeframe.value)
    with connection.cursor(binary=True) as cursor:
        rows = cursor.execute(_PRICES, (*place, wanted[0], wanted[-1], wanted)).fetchall()
    stamps, opens, closes = zip(*rows, strict=True) if rows else ((), (), ())
    return Prices(
        np.array(stamps, dtype=np.int64),
        np.array(opens, dtype=np.float64),
        np.array(closes, dtype=np.float64),
    )


def _write(connection: Connection, known: Sequence[tuple[_Due, float]]) -> None:
    rows = [(each.id, each.length, to_datetime(each.end), value) for each, value in known]
    connection.execute(_WRITE, columns(rows, 4))
