from itertools import pairwise
from random import Random
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg.rows import dict_row
from streaming import EXCHANGE, MIDNIGHT, SYMBOL, Recorded, Span, Streaming, cover, random_tape, random_trade

from market import DAY, Trade
from market.timeframe import from_datetime
from storage import tape
from storage.database import Connection
from storage.rebuild import Cause, differences, rebuild

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


def snapshot(connection: Connection) -> tuple[Any, ...]:
    """Everything that follows from the tape, but how often it was revised."""
    candles = {key: {**row, "revised": 0} for key, row in stored_candles(connection).items()}
    return stored_cvd(connection), candles, stored_points(connection)


def from_nothing(connection: Connection) -> tuple[Any, ...]:
    """What a rebuild of the whole tape gives, into empty tables."""
    with connection.transaction(force_rollback=True):
        connection.execute("UPDATE trades SET cvd_at_trade = 0")
        connection.execute("DELETE FROM candles")
        connection.execute("DELETE FROM cvd_snapshots")
        rebuild(connection, EXCHANGE, SYMBOL, *EVER, "repair")
        return snapshot(connection)


def change(connection: Connection, trades: list[Trade], begin: int, end: int, cause: Cause) -> None:
    tape.merge_trades(connection, EXCHANGE, trades, None)
    rebuild(connection, EXCHANGE, SYMBOL, begin, end, cause)


@property_test
@given(seed=st.integers(0, 2**32))
def test_late_trades_give_what_the_stream_would_have(connection: Connection, seed: int) -> None:
    random = Random(seed)
    spans, books = random_tape(random)
    whole = Streaming().run(spans, books)
    late = [trade for span in spans for trade in span.trades[1:-1] if random.random() < 0.2]
    on_time = [Span([trade for trade in span.trades if trade not in late], span.until) for span in spans]
    with connection.transaction(force_rollback=True):
        Streaming().run(on_time, books).write(connection)
        random.shuffle(late)
        while late:
            batch, late = late[:5], late[5:]
            times = [trade.timestamp for trade in batch]
            change(connection, batch, min(times), max(times) + 1, "late_trade")
        assert_equal(connection, whole)


@property_test
@given(seed=st.integers(0, 2**32))
def test_healed_holes_give_what_a_rebuild_from_nothing_does(connection: Connection, seed: int) -> None:
    random = Random(seed)
    spans, books = random_tape(random)
    with connection.transaction(force_rollback=True):
        Streaming().run(spans, books).write(connection)
        for earlier, later in pairwise(spans):
            begin, end = sorted(random.randint(earlier.until, later.begin) for _ in range(2))
            if random.random() < 0.5:
                begin, end = earlier.until, later.begin
            if begin == end:
                continue
            trades = [random_trade(random, random.randrange(begin, end), number) for number in range(9)]
            kept = trades[: random.choice((0, 1, 9))]
            tape.merge_trades(connection, EXCHANGE, kept, None)
            cover(connection, begin, end, proof="rest", origin="healed")
            rebuild(connection, EXCHANGE, SYMBOL, begin, end, "healed")
            assert differences(connection, EXCHANGE, SYMBOL, *EVER) == []
        assert snapshot(connection) == from_nothing(connection)


@property_test
@given(seed=st.integers(0, 2**32))
def test_piece_by_piece_gives_what_the_stream_does(connection: Connection, seed: int) -> None:
    random = Random(seed)
    spans, books = random_tape(random)
    whole = Streaming().run(spans, books)
    with connection.transaction(force_rollback=True):
        tape.write_books(connection, EXCHANGE, books)
        for span in spans:
            left, begin = list(span.trades), span.begin
            while left:
                batch, left = left[:20], left[20:]
                end = left[0].timestamp if left else span.until
                cover(connection, begin, end)
                change(connection, batch, begin, max(end, batch[-1].timestamp + 1), "import")
                begin = end
        assert_equal(connection, whole)


@property_test
@given(seed=st.integers(0, 2**32))
def test_a_stream_that_was_written_differs_nowhere(connection: Connection, seed: int) -> None:
    streamed = Streaming().run(*random_tape(Random(seed)))
    with connection.transaction(force_rollback=True):
        streamed.write(connection)
        assert differences(connection, EXCHANGE, SYMBOL, *EVER) == []
        rebuild(connection, EXCHANGE, SYMBOL, *EVER, "repair")
        assert connection.execute("SELECT FROM tape_revisions").fetchall() == []
        assert {row["revised"] for row in stored_candles(connection).values()} == {0}
