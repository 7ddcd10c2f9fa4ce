"""Calibrations from the tape into their table: fitted when the first signal after a cut needs one, then kept.

A fit evaluates the strategy on the candles before the cut. So it depends on the tape and the calendar, not on
which signals happened to be stored, nor on the order in which they were computed.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

import numpy as np
from psycopg import sql
from psycopg.types.json import Jsonb

from market.timeframe import to_datetime
from signals.blocks import anchor
from signals.calibration import WINDOW, Calibration, cut_before, fit, plain
from signals.engine import SignalType
from signals.options import HORIZON
from signals.outcomes import Prices, direction, net_returns
from signals.reading import Tape, read_higher
from signals.store import Key

if TYPE_CHECKING:
    from collections.abc import Sequence

    from signals.frame import Array, CandleFrame, Flags, Indices
    from signals.judging import Judge
    from signals.rows import SignalRow
    from signals.strategies import Strategy
    from signals.target import Target
    from storage.database import Connection

_KEY = ("strategy_name", "config_hash", "exchange", "symbol", "interval", "horizon", "cutoff_timestamp")

_FIND = sql.SQL("SELECT id, bins FROM calibrations WHERE ({}) = ({})").format(
    sql.SQL(", ").join(map(sql.Identifier, _KEY)), sql.SQL(", ").join(sql.Placeholder() * len(_KEY))
)
_ADD = sql.SQL(
    "INSERT INTO calibrations ({}, window_from, bins, sample_count) VALUES ({}, %s, %s, %s) RETURNING id"
).format(sql.SQL(", ").join(map(sql.Identifier, _KEY)), sql.SQL(", ").join(sql.Placeholder() * len(_KEY)))


@dataclass(frozen=True, slots=True, eq=False)
class Samples:
    """Signals whose horizon has ended.

    Attributes:
        timestamp: when each became known, microseconds UTC.
        score: -1 … 1.
        is_right: whether the net return is above 0.
    """

    timestamp: Indices
    score: Array
    is_right: Flags


def samples(rows: Sequence[SignalRow], frame: CandleFrame, cut: int) -> Samples:
    """The signals among `rows` whose outcome was known before `cut`. Pure.

    Args:
        rows: signals of the candles of `frame`.
        frame: closed candles; those that close at `cut` or later are not looked at.
        cut: microseconds UTC.
    """
    length = frame.timeframe.microseconds
    frame = frame.part(0, frame.find(cut - length))
    prices = Prices(frame.timestamp, frame.open, frame.close)
    known = np.array([row.timestamp for row in rows], dtype=np.int64)
    score = np.array([row.score for row in rows], dtype=np.float64)
    signs = direction([row.signal_type for row in rows])
    returns = net_returns(prices, known, signs, HORIZON, length)
    counts = (signs != 0) & ~np.isnan(returns)
    return Samples(known[counts], score[counts], returns[counts] > 0)


class InForce:
    """Finds the calibrations that signals use; fits those that nobody has needed before.

    It remembers those that it found, which never change, and which cut of a strategy on a target lacks
    signals: nothing but a revision of the tape changes that, and finding out costs a read of the window.
    """

    def __init__(self) -> None:
        self._found: dict[Key, Calibration] = {}
        self._lacking: dict[Key, tuple[int, int]] = {}

    def find(
        self,
        connection: Connection,
        strategy: Strategy,
        target: Target,
        rows: Sequence[SignalRow],
        judge: Judge,
        revision: int,
    ) -> dict[int, Calibration]:
        """The calibrations by cut that these signals use; a cut without enough signals before it has none.

        Args:
            connection: a transaction that holds the lock of the strategy on the target
                (`signals.store.lock`).
            strategy: whose signals.
            target: on whose candles.
            rows: the signals.
            judge: what evaluates the strategy.
            revision: of the tape, as `newest_revisions` found it before any candle was read.

        One that reads trades has none: those of a whole window are too many to read again.
        """
        if strategy.trade_candles:
            return {}
        cuts = sorted({cut_before(row.timestamp) for row in rows if row.signal_type != SignalType.NEUTRAL})
        found = {cut: self._find(connection, strategy, target, cut, judge, revision) for cut in cuts}
        return {cut: calibration for cut, calibration in found.items() if calibration}

    def _find(
        self,
        connection: Connection,
        strategy: Strategy,
        target: Target,
        cut: int,
        judge: Judge,
        revision: int,
    ) -> Calibration | None:
        key, now = Key.of(strategy, target), (cut, revision)
        known = self._found.get(key)
        if known is not None and known.cutoff == cut:
            return known
        if self._lacking.get(key) == now:
            return None
        stored = _stored(connection, strategy, target, cut)
        if stored is not None:
            self._found[key] = stored
            return stored
        # One that was just fitted is remembered when it is found again: this transaction may yet fail.
        fitted = _fitted(connection, strategy, target, cut, judge)
        if fitted is None:
            self._lacking[key] = now
        return fitted


def _stored(connection: Connection, strategy: Strategy, target: Target, cut: int) -> Calibration | None:
    row = connection.execute(_FIND, _values(strategy, target, cut)).fetchone()
    return Calibration.parse(row[0], cut, row[1]) if row else None


def _fitted(
    connection: Connection, strategy: Strategy, target: Target, cut: int, judge: Judge
) -> Calibration | None:
    """The calibration of a cut, fitted on the tape before it and stored."""
    window = cut - WINDOW * target.timeframe.microseconds
    begin = window - window % target.timeframe.microseconds
    tape = Tape(connection)
    frame = tape.read(target, anchor(target.timeframe, begin, strategy.warmup), cut)
    start = frame.find(begin)
    if start == len(frame):
        return None
    confirming = strategy.confirming(target.timeframe)
    first = int(frame.timestamp[start])
    higher = read_higher(tape, target, confirming, strategy.warmup, first, cut)
    judged = judge(strategy, frame, start, None, higher, is_explained=False)
    taken = samples(judged.rows, frame, cut)
    bins = fit(taken.score, taken.is_right)
    if bins is None:
        return None
    values = (*_values(strategy, target, cut), to_datetime(begin), Jsonb(plain(bins)), len(taken.score))
    (number,) = connection.execute(_ADD, values).fetchone() or (0,)
    return Calibration(number, cut, bins)


def _values(strategy: Strategy, target: Target, cut: int) -> tuple[object, ...]:
    horizon = timedelta(microseconds=HORIZON * target.timeframe.microseconds)
    return (*Key.of(strategy, target).values, horizon, to_datetime(cut))
