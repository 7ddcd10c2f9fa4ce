from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from psycopg.rows import dict_row

from market import DAY, BookSnapshot, Side, Trade
from market.timeframe import from_datetime
from storage import tape
from storage.database import Connection
from storage.rebuild import differences, rebuild
from streaming import (
    EXCHANGE,
    HOUR,
    MIDNIGHT,
    MINUTE,
    SECOND,
    SYMBOL,
    Recorded,
    Span,
    Streaming,
    cover,
    random_tape,
)

EVER = (MIDNIGHT - 30 * DAY, MIDNIGHT + 30 * DAY)
property_test = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def stored_candles(connection: Connection) -> dict[tuple[str, int], dict[str, Any]]:
    with connection.cursor(row_factory=dict_row) as cursor:
        rows = cursor.execute("SELECT * FROM candles").fetchall()
    return {(row["interval"], from_datetime(row["timestamp"])): row for row in rows}


def stored_points(connection: Connection) -> dict[int, dict[str, Any]]:
    with connection.cursor(row_factory=dict_row) as cursor:
        rows = cursor.execute("SELECT * FROM cvd_snapshots").fetchall()
    return {from_datetime(row["timestamp"]): row for row in rows}


def stored_cvd(connection: Connection) -> list[float]:
    rows = connection.execute("SELECT cvd_at_trade FROM trades ORDER BY timestamp, trade_seq")
    return [cvd for (cvd,) in rows]


def assert_equal(connection: Connection, streamed: Recorded) -> None:
    assert stored_cvd(connection) == [cvd for _, cvd in streamed.trades]
    candles = stored_candles(connection)
    assert candles.keys() == streamed.candles.keys()
    for key, candle in streamed.candles.items():
        for column in tape.CANDLE_VALUES:
            assert candles[key][column] == getattr(candle, column), (key, column)
    points = stored_points(connection)
    assert points.keys() == streamed.points.keys()
    for timestamp, point in streamed.points.items():
        row = {**points[timestamp], "anchor_timestamp": from_datetime(points[timestamp]["anchor_timestamp"])}
        for column in tape.CVD_VALUES:
            assert row[column] == getattr(point, column), (timestamp, column)


@property_test
@given(seed=st.integers(0, 2**32))
def test_a_rebuild_from_nothing_equals_the_stream(connection: Connection, seed: int) -> None:
    streamed = Streaming().run(*random_tape(Random(seed)))
    with connection.transaction(force_rollback=True):
        streamed.write_raw(connection)
        connection.execute("UPDATE trades SET cvd_at_trade = 0")
        rebuild(connection, EXCHANGE, SYMBOL, streamed.spans[0].begin, streamed.spans[-1].until, "repair")
        assert_equal(connection, streamed)
