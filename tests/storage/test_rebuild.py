from itertools import pairwise
from random import Random
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg.rows import dict_row
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
    random_trade,
)

from market import DAY, Candle, Side, Timeframe, Trade
from market.timeframe import from_datetime
from storage import ledger, tape
from storage.database import Connection
from storage.rebuild import Cause, differences, rebuild

EVER = (MIDNIGHT - 30 * DAY, MIDNIGHT + 30 * DAY)
property_test = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
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


def one_trade(timestamp: int, price: float = 2.0, size: float = 3.0, side: Side | None = Side.BUY) -> Trade:
    return Trade(SYMBOL, timestamp, f"{timestamp}", 0, price, size, side)


def stream_of(connection: Connection, *trades: Trade, until: int) -> None:
    Streaming().run([Span(list(trades), until)], []).write(connection)


def revisions(connection: Connection) -> list[tuple[int, int, str]]:
    rows = connection.execute("SELECT from_timestamp, to_timestamp, cause FROM tape_revisions ORDER BY id")
    return [(from_datetime(begin), from_datetime(end), cause) for begin, end, cause in rows]


def test_only_what_differs_is_revised(connection: Connection) -> None:
    noon = MIDNIGHT + 12 * HOUR
    stream_of(connection, one_trade(noon), one_trade(noon + 3 * MINUTE), until=noon + 6 * MINUTE)
    late = one_trade(noon + 1 * MINUTE, side=None)
    change(connection, [late], late.timestamp, late.timestamp + 1, "late_trade")
    candles = stored_candles(connection)
    revised = {key for key, row in candles.items() if row["revised"]}
    # Without a side CVD stays; the day and the hours are still open, which is no revision.
    assert revised == {("1m", noon + MINUTE), ("5m", noon)}
    assert candles["1m", noon + MINUTE]["volume"] == 3.0
    assert revisions(connection) == [(noon + MINUTE, noon + 2 * MINUTE, "late_trade")]


def test_a_revision_names_everything_that_changed(connection: Connection) -> None:
    noon = MIDNIGHT + 12 * HOUR
    stream_of(connection, one_trade(noon), one_trade(noon + 3 * MINUTE), until=noon + 6 * MINUTE)
    late = one_trade(noon + 1 * MINUTE)
    change(connection, [late], late.timestamp, late.timestamp + 1, "late_trade")
    # CVD changed up to the last point; the minute around it is still open.
    assert revisions(connection) == [(noon + MINUTE, noon + 5 * MINUTE + 50 * SECOND, "late_trade")]


def test_candles_of_others_stay_but_where_the_tape_has_its_own(connection: Connection) -> None:
    noon = MIDNIGHT + 12 * HOUR
    for minute in range(6):
        theirs = Candle(
            symbol=SYMBOL,
            timeframe=Timeframe.M1,
            timestamp=noon + minute * MINUTE,
            open=7.0,
            high=7.0,
            low=7.0,
            close=7.0,
            volume=1.0,
            is_closed=True,
            source="exchange",
        )
        tape.write_candles(connection, EXCHANGE, [theirs])
    first = one_trade(noon + 2 * MINUTE)
    cover(connection, first.timestamp, noon + 4 * MINUTE + 3 * SECOND)
    change(connection, [first], first.timestamp, noon + 4 * MINUTE, "import")
    sources = [stored_candles(connection)["1m", noon + minute * MINUTE]["source"] for minute in range(6)]
    assert sources == ["exchange", "exchange", "trades", "trades", "exchange", "exchange"]
    assert differences(connection, EXCHANGE, SYMBOL, *EVER) == []


def test_rows_in_what_turns_out_a_hole_are_deleted(connection: Connection) -> None:
    noon = MIDNIGHT + 12 * HOUR
    first, second = one_trade(noon), one_trade(noon + 10 * MINUTE)
    stream_of(connection, first, second, until=noon + 10 * MINUTE + 1)
    assert ("1m", noon + 5 * MINUTE) in stored_candles(connection)
    assert ledger.add_gap(
        connection,
        EXCHANGE,
        SYMBOL,
        "trades",
        noon + 1,
        noon + 10 * MINUTE,
        cause="ids_missing",
        status="confirmed",
        proof="ids",
    )
    rebuild(connection, EXCHANGE, SYMBOL, noon + 1, noon + 10 * MINUTE, "repair")
    candles = stored_candles(connection)
    assert [at for interval, at in sorted(candles) if interval == "1m"] == [noon, noon + 10 * MINUTE]
    assert not any(row["is_whole"] for row in candles.values())
    assert stored_points(connection) == {}
    assert snapshot(connection) == from_nothing(connection)


def test_quiet_days_follow_the_last_trade_before_them(connection: Connection) -> None:
    evening = MIDNIGHT - 10 * MINUTE
    until = MIDNIGHT + 2 * DAY + 5 * MINUTE
    stream_of(connection, one_trade(evening), one_trade(until - 1), until=until)
    late = one_trade(evening + 5 * MINUTE, price=9.0)
    change(connection, [late], late.timestamp, late.timestamp + 1, "late_trade")
    candles = stored_candles(connection)
    assert candles["1m", MIDNIGHT + DAY]["close"] == 9.0
    assert candles["1d", MIDNIGHT + DAY]["close"] == 9.0
    assert candles["1d", MIDNIGHT + DAY]["cvd_close"] == 0.0
    assert snapshot(connection) == from_nothing(connection)


def test_differences_show_both_sides_and_write_nothing(connection: Connection) -> None:
    noon = MIDNIGHT + 12 * HOUR
    stream_of(connection, one_trade(noon), until=noon + MINUTE + 3 * SECOND)
    connection.execute("UPDATE trades SET cvd_at_trade = 8")
    connection.execute("UPDATE candles SET volume = 8 WHERE interval = '1m'")
    connection.execute("DELETE FROM candles WHERE interval = '1d'")
    connection.execute("""
        INSERT INTO cvd_snapshots (timestamp, exchange, symbol, cvd, cvd_change, anchor_timestamp)
        SELECT timestamp - '1 min'::interval, exchange, symbol, 0, 0, timestamp FROM trades
    """)
    for _ in range(2):
        found = differences(connection, EXCHANGE, SYMBOL, noon, noon + 1)
        assert [(each.table, each.timestamp, each.name) for each in found] == [
            ("trades", noon, f"{noon}"),
            ("candles", MIDNIGHT, "1d"),
            ("candles", noon, "1m"),
            ("cvd_snapshots", noon - MINUTE, ""),
        ]
    trade, missing, candle, point = found
    assert (trade.stored, trade.rebuilt) == ({"cvd_at_trade": 8.0}, {"cvd_at_trade": 3.0})
    assert missing.stored is None
    assert missing.rebuilt is not None
    assert candle.stored is not None
    assert candle.rebuilt is not None
    assert (candle.stored["volume"], candle.rebuilt["volume"]) == (8.0, 3.0)
    assert point.stored is not None
    assert point.rebuilt is None
    rebuild(connection, EXCHANGE, SYMBOL, noon, noon + 1, "repair")
    assert differences(connection, EXCHANGE, SYMBOL, noon, noon + 1) == []


def test_other_instruments_are_left_alone(connection: Connection) -> None:
    noon = MIDNIGHT + 12 * HOUR
    stream_of(connection, one_trade(noon), until=noon + MINUTE)
    before = snapshot(connection)
    for exchange, symbol in ((EXCHANGE, "ETH/USDT"), ("kraken", SYMBOL)):
        connection.execute("UPDATE candles SET volume = 7")
        rebuild(connection, exchange, symbol, *EVER, "repair")
        assert {row["volume"] for row in stored_candles(connection).values()} == {7.0}
    rebuild(connection, EXCHANGE, SYMBOL, *EVER, "repair")
    assert snapshot(connection) == before


def test_planner_settings_do_not_leak(connection: Connection) -> None:
    differences(connection, EXCHANGE, SYMBOL, *EVER)
    rebuild(connection, EXCHANGE, SYMBOL, *EVER, "repair")
    assert connection.execute("SHOW enable_nestloop").fetchone() == ("on",)
