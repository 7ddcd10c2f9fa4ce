"""A tape that is right passes; every kind of damage is found, and nothing else is said."""

from collections.abc import Callable
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from streaming import (
    EXCHANGE,
    HOUR,
    MIDNIGHT,
    MINUTE,
    SECOND,
    SYMBOL,
    Span,
    Streaming,
    cover,
    random_book,
    random_tape,
)

from market import DAY, Instrument, Side, Trade, WrongUse
from market.timeframe import to_datetime
from storage import holes, ledger, rebuild, tape, verify
from storage.database import Connection, connect
from storage.instruments import write_instruments
from storage.verify import DayProof

BEGIN = MIDNIGHT - 30 * MINUTE
COUNT = 600
STEP = 6 * SECOND
COUNTS = {
    "ids_missing",
    "ids_renamed",
    "misordered",
    "duplicates",
    "orphans",
    "cvd",
    "candles",
    "candles_contradicted",
    "open_gaps",
    "healed_gaps",
    "halts",
    "unhealable",
    "book_breaks",
}


def trade_at(timestamp: int, number: int, price: float = 100.0) -> Trade:
    side = Side.BUY if number % 3 else Side.SELL
    return Trade(SYMBOL, timestamp, str(number), number, price, 0.125 * (1 + number % 7), side)


def numbered(begin: int, first: int, count: int, step: int = STEP) -> list[Trade]:
    return [trade_at(begin + number * step, first + number, 100 + number % 11 / 8) for number in range(count)]


def is_numbered(connection: Connection, *, consecutive: bool = True) -> None:
    write_instruments(
        connection,
        [
            Instrument(
                exchange=EXCHANGE,
                symbol=SYMBOL,
                exchange_symbol="BTCUSDT",
                base="BTC",
                quote="USDT",
                trade_ids_consecutive=consecutive,
            )
        ],
    )


def write(connection: Connection, *spans: Span) -> None:
    """What a collector writes of spans of consecutive ids, around midnight."""
    seconds = range(BEGIN, spans[-1].until - MINUTE, 7 * SECOND)
    books = [random_book(Random(1), moment) for moment in seconds]
    is_numbered(connection)
    Streaming().run(spans, books).write(connection)


def one_span() -> Span:
    trades = numbered(BEGIN, 1, COUNT)
    return Span(trades, trades[-1].timestamp + 5 * MINUTE)


def proofs(connection: Connection, begin: int | None = None, end: int | None = None) -> list[DayProof]:
    """Every day of the tape; another session reads what is committed."""
    connection.commit()
    with verify.snapshot(connection, EXCHANGE, SYMBOL, begin, end) as proof:
        return [proof.prove(day) for day in proof.days]


def found(proof: DayProof) -> dict[str, int]:
    """What the proof counts, without the zeros."""
    values = {name: getattr(proof, name) for name in COUNTS}
    counts = {name: value if isinstance(value, int) else value.count for name, value in values.items()}
    return {name: count for name, count in counts.items() if count}


def test_a_whole_tape_is_proven(connection: Connection) -> None:
    write(connection, one_span())
    first, second = proofs(connection)
    assert (first.day, second.day) == (MIDNIGHT - DAY, MIDNIGHT)
    assert (first.trades, second.trades) == (300, COUNT - 300)
    assert found(first) == found(second) == {}
    assert first.ok
    assert second.ok
    assert first.coverage_percent == second.coverage_percent == 100
    assert (first.observed_from, first.observed_to) == (BEGIN, MIDNIGHT)
    assert second.observed_to == BEGIN + (COUNT - 1) * STEP + 5 * MINUTE
    assert first.origins == ["live"]


property_test = settings(
    max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@property_test
@given(seed=st.integers(0, 2**32))
def test_whatever_a_stream_writes_is_right(connection: Connection, seed: int) -> None:
    connection.execute("TRUNCATE trades, candles, cvd_snapshots, orderbook_snapshots, stream_coverage")
    spans, books = random_tape(Random(seed))
    Streaming().run(spans, books).write(connection)
    days = proofs(connection)
    assert [found(proof) for proof in days] == [{}] * len(days)
    assert sum(proof.trades for proof in days) == sum(len(span.trades) for span in spans)
    covered = sum(span.until - span.begin for span in spans) / 1e6
    assert sum(proof.covered_seconds for proof in days) == pytest.approx(covered)
    unobserved = (spans[-1].until - spans[0].begin) / 1e6 - covered
    assert sum(proof.unobserved_seconds for proof in days) <= unobserved + 1e-6


Damage = Callable[[Connection], object]


def statement(text: str) -> Damage:
    return lambda connection: connection.execute(text)


def rebuilt(text: str) -> Damage:
    """Damage that somebody has rebuilt everything on."""

    def damage(connection: Connection) -> None:
        connection.execute(text)
        rebuild.rebuild(connection, EXCHANGE, SYMBOL, BEGIN, MIDNIGHT + HOUR, "repair")

    return damage


ONE = "trade_id = '100'"
DAMAGES: dict[str, tuple[Damage, dict[str, int]]] = {
    "a trade is gone": (rebuilt(f"DELETE FROM trades WHERE {ONE}"), {"ids_missing": 1}),
    "ten trades are gone": (
        rebuilt("DELETE FROM trades WHERE trade_seq BETWEEN 91 AND 100"),
        {"ids_missing": 10},
    ),
    "the last trade of a day is gone": (
        rebuilt("DELETE FROM trades WHERE trade_seq = 300"),
        {"ids_missing": 1},
    ),
    "a trade stands there twice": (
        rebuilt(f"""
            INSERT INTO trades SELECT timestamp + '1 s'::interval, exchange, symbol, trade_id, trade_seq,
                fill_count, price, size, side, cvd_at_trade FROM trades WHERE {ONE}"""),
        {"duplicates": 1, "misordered": 1},
    ),
    "a number is not its id's": (
        rebuilt(f"UPDATE trades SET trade_id = 'x' WHERE {ONE}"),
        {"ids_renamed": 1},
    ),
    "two trades changed places": (
        rebuilt(f"UPDATE trades SET timestamp = timestamp + '7 s'::interval WHERE {ONE}"),
        {"misordered": 1},
    ),
    "a CVD of a trade": (statement(f"UPDATE trades SET cvd_at_trade = 1e6 WHERE {ONE}"), {"cvd": 1}),
    "a CVD point": (
        statement("UPDATE cvd_snapshots SET cvd_ma_5 = 1e6 WHERE timestamp = '2024-10-03T23:50Z'"),
        {"cvd": 1},
    ),
    "a CVD point is gone": (
        statement("DELETE FROM cvd_snapshots WHERE timestamp = '2024-10-03T23:50Z'"),
        {"cvd": 1},
    ),
    "a candle's volume": (
        statement(
            "UPDATE candles SET volume = 1e6 WHERE timestamp = '2024-10-03T23:50Z' AND interval = '5m'"
        ),
        {"candles": 1},
    ),
    "a candle's book": (
        statement("UPDATE candles SET snapshot_count = 0 WHERE timestamp = '2024-10-03T23:50Z'"),
        {"candles": 2},
    ),
    "a candle is gone": (
        statement("DELETE FROM candles WHERE timestamp = '2024-10-03T23:50Z' AND interval = '1m'"),
        {"candles": 1},
    ),
    "a candle nobody traded": (
        statement("""
            INSERT INTO candles SELECT '2024-10-03T12:00Z', exchange, symbol, interval, open, high, low,
                close, volume, buy_volume, sell_volume, vwap, trade_count, cvd_close, imbalance_mean,
                imbalance_last, spread_bps_mean, snapshot_count, is_closed, is_whole, revised, source
            FROM candles WHERE timestamp = '2024-10-03T23:50Z' AND interval = '1m'"""),
        {"candles": 1},
    ),
    "coverage is gone": (
        rebuilt("UPDATE stream_coverage SET from_timestamp = '2024-10-03T23:31Z'"),
        {"orphans": 10},
    ),
}
"""What is done to the tape, and what is wrong with it then."""


@pytest.mark.parametrize("name", DAMAGES)
def test_every_damage_is_found(connection: Connection, name: str) -> None:
    write(connection, one_span())
    damage, expected = DAMAGES[name]
    damage(connection)
    days = proofs(connection)
    counts: dict[str, int] = {}
    for proof in days:
        for kind, count in found(proof).items():
            counts[kind] = counts.get(kind, 0) + count
    assert counts == expected
    assert all(proof.ok for proof in days) == (set(expected) <= {"misordered"})


def test_examples_name_the_rows(connection: Connection) -> None:
    write(connection, one_span())
    connection.execute("UPDATE candles SET volume = 1e6 WHERE interval = '1m'")
    connection.execute("DELETE FROM trades WHERE trade_seq = 7")
    proof = proofs(connection)[0]
    opens = [MIDNIGHT - 30 * MINUTE + minute * MINUTE for minute in range(3)]
    assert proof.candles.examples == [
        (MIDNIGHT - DAY, "1d"),
        (MIDNIGHT - 4 * HOUR, "4h"),
        (MIDNIGHT - HOUR, "1h"),
    ]
    assert opens[0] == BEGIN
    (run,) = proof.missing_runs
    assert (run.first, run.last, run.before, run.after) == (7, 7, BEGIN + 5 * STEP, BEGIN + 7 * STEP)


def hole(connection: Connection, status: ledger.GapStatus, **more: object) -> None:
    """Ids 101 to 110 are on record as missing; they were never written."""
    fields = {
        "cause": "ids_missing",
        "status": status,
        "proof": "ids",
        "from_id": "101",
        "to_id": "110",
        "missing_count": 10,
    }
    ledger.add_gap(
        connection,
        EXCHANGE,
        SYMBOL,
        "trades",
        BEGIN + 99 * STEP + 1,
        BEGIN + 110 * STEP,
        **{**fields, **more},  # type: ignore[arg-type]
    )


def two_spans() -> tuple[Span, Span]:
    trades = one_span().trades
    return Span(trades[:100], trades[99].timestamp + 1), Span(trades[110:], one_span().until)


@pytest.mark.parametrize(
    ("status", "is_ok", "counted"),
    [
        ("suspected", False, "open_gaps"),
        ("confirmed", False, "open_gaps"),
        ("halt", True, "halts"),
        ("unhealable", True, "unhealable"),
    ],
)
def test_an_open_hole_counts_and_one_that_nobody_can_fill_is_listed(
    connection: Connection, status: ledger.GapStatus, is_ok: bool, counted: str
) -> None:
    write(connection, *two_spans())
    hole(connection, status)
    first, second = proofs(connection)
    assert found(first) == {counted: 1}
    assert first.ok is is_ok
    assert second.ok
    assert first.hole_seconds == 66 - 1e-6
    assert first.unobserved_seconds == 0
    assert first.coverage_percent == pytest.approx(100 * (1 - 66 / 1800))


def test_time_that_nobody_observed_is_said_and_is_no_hole(connection: Connection) -> None:
    write(connection, *two_spans())
    first, _ = proofs(connection)
    assert (first.ok, found(first)) == (True, {})
    assert (first.hole_seconds, first.unobserved_seconds) == (0, 66 - 1e-6)


def test_ids_that_were_never_given_are_not_missing(connection: Connection) -> None:
    write(connection, *two_spans())
    end = BEGIN + 110 * STEP
    cover(connection, BEGIN + 99 * STEP + 1, end, origin="backfill")
    rebuild.rebuild(connection, EXCHANGE, SYMBOL, BEGIN + 99 * STEP + 1, end, "import")
    (first, _) = proofs(connection)
    assert found(first) == {"ids_missing": 10}
    for _ in range(2):
        runs = [(101, 110, BEGIN + 99 * STEP, end)]
        holes.record_ungiven(connection, EXCHANGE, SYMBOL, runs, "ids")
    (first, _) = proofs(connection)
    assert (first.ok, found(first)) == (True, {"healed_gaps": 1})
    connection.execute("UPDATE stream_gaps SET healed_count = 4")
    (first, _) = proofs(connection)
    assert found(first) == {"ids_missing": 4, "healed_gaps": 1}


def test_ids_that_begin_anew_are_neither_missing_nor_repeated(connection: Connection) -> None:
    before, after = numbered(BEGIN, 1, 50), numbered(BEGIN + 60 * STEP, 1, 50)
    begin, moment = before[-1].timestamp + 1, after[0].timestamp
    write(connection, Span(before, begin), Span(after, after[-1].timestamp + MINUTE))
    (proof,) = proofs(connection)
    assert found(proof) == {"duplicates": 50}
    ledger.add_gap(
        connection,
        EXCHANGE,
        SYMBOL,
        "trades",
        begin,
        moment,
        cause="id_reset",
        status="halt",
        proof="connection",
    )
    (proof,) = proofs(connection)
    assert (proof.ok, found(proof)) == (True, {"halts": 1})


def test_ids_of_an_exchange_that_numbers_nothing_may_skip(connection: Connection) -> None:
    write(connection, one_span())
    is_numbered(connection, consecutive=False)
    DAMAGES["a trade is gone"][0](connection)
    assert [found(proof) for proof in proofs(connection)] == [{}, {}]
    DAMAGES["a trade stands there twice"][0](connection)
    connection.execute("UPDATE trades SET trade_id = '200', trade_seq = 9 WHERE trade_id = '301'")
    assert [found(proof) for proof in proofs(connection)] == [{}, {"duplicates": 1}]


def test_aggregates_have_numbers_of_their_own(connection: Connection) -> None:
    trades = [
        Trade(t.symbol, t.timestamp, f"a{t.trade_seq + 5000}", t.trade_seq + 5000, t.price, t.size, t.side)
        for t in numbered(BEGIN, 1, 50)
    ]
    single = numbered(BEGIN + 50 * STEP, 1, 50)
    write(connection, Span([*trades, *single], single[-1].timestamp + MINUTE))
    (proof,) = proofs(connection)
    assert (proof.ok, found(proof)) == (True, {})


def test_trades_in_an_open_hole_are_no_orphans(connection: Connection) -> None:
    write(connection, *two_spans())
    hole(connection, "confirmed")
    tape.merge_trades(connection, EXCHANGE, [one_span().trades[104]], None)
    rebuild.rebuild(connection, EXCHANGE, SYMBOL, BEGIN, MIDNIGHT, "healed")
    assert found(proofs(connection)[0]) == {"open_gaps": 1}


def test_trades_on_a_day_without_coverage_are_found(connection: Connection) -> None:
    write(connection, one_span())
    tape.merge_trades(connection, EXCHANGE, numbered(MIDNIGHT - 5 * DAY, 1, 3), None)
    rebuild.rebuild(connection, EXCHANGE, SYMBOL, MIDNIGHT - 5 * DAY, MIDNIGHT - 4 * DAY, "import")
    first, *rest = proofs(connection)
    assert (first.day, first.trades, first.ok) == (MIDNIGHT - 5 * DAY, 3, False)
    assert found(first) == {"orphans": 3}
    assert first.coverage_percent is None
    assert all(proof.ok for proof in rest)


def test_what_is_not_settled_is_not_judged(connection: Connection) -> None:
    """The last minute may wait for its book before it closes; a value that differs is wrong all the same."""
    trades = numbered(BEGIN, 1, 21, 3 * SECOND)
    write(connection, Span(trades, trades[-1].timestamp + 1))
    last_minute = "timestamp = '2024-10-03T23:30Z' AND interval = '1m'"
    assert connection.execute(f"SELECT is_closed FROM candles WHERE {last_minute}").fetchone() == (True,)
    connection.execute(f"UPDATE candles SET is_closed = false, is_whole = false WHERE {last_minute}")
    assert [found(proof) for proof in proofs(connection)] == [{}]
    connection.execute(f"UPDATE candles SET volume = 7 WHERE {last_minute}")
    assert [found(proof) for proof in proofs(connection)] == [{"candles": 1}]


def test_one_snapshot_sees_nothing_of_what_is_written_meanwhile(database: str) -> None:
    with connect(database) as writer, connect(database, read_only=True) as reader:
        write(writer, one_span())
        writer.commit()
        with verify.snapshot(reader, EXCHANGE, SYMBOL) as proof:
            DAMAGES["a trade is gone"][0](writer)
            DAMAGES["a candle's volume"][0](writer)
            writer.commit()
            assert [found(proof.prove(day)) for day in proof.days] == [{}, {}]
        assert [found(each) for each in proofs(reader)] != [{}, {}]


def test_days_are_chosen_by_time(connection: Connection) -> None:
    write(connection, one_span())
    assert [proof.day for proof in proofs(connection, MIDNIGHT + HOUR)] == [MIDNIGHT]
    assert [proof.day for proof in proofs(connection, None, MIDNIGHT)] == [MIDNIGHT - DAY]
    assert proofs(connection, MIDNIGHT + DAY) == []


def test_candles_of_others_that_contradict_the_tape_are_a_warning(connection: Connection) -> None:
    write(connection, one_span())
    connection.execute("DELETE FROM candles WHERE timestamp = %s", [to_datetime(MIDNIGHT - 10 * MINUTE)])
    cover(connection, MIDNIGHT - 2 * HOUR, BEGIN, origin="backfill")
    connection.execute(
        """
        INSERT INTO candles (timestamp, exchange, symbol, interval, open, high, low, close, volume,
            is_closed, is_whole, source)
        VALUES (%s, %s, %s, '1m', 1, 1, 1, 1, 5, true, true, 'exchange')
        """,
        (to_datetime(MIDNIGHT - HOUR), EXCHANGE, SYMBOL),
    )
    rebuild.rebuild(connection, EXCHANGE, SYMBOL, MIDNIGHT - 2 * HOUR, MIDNIGHT, "import")
    first, _ = proofs(connection)
    assert (first.ok, found(first)) == (True, {"candles_contradicted": 1})


def test_instruments_are_named(connection: Connection) -> None:
    assert verify.instruments(connection) == []
    assert verify.instruments(connection, "kraken") == []
    write(connection, one_span())
    assert verify.instruments(connection, EXCHANGE) == [(EXCHANGE, SYMBOL)]
    with pytest.raises(WrongUse, match="kraken"):
        verify.instruments(connection, "kraken")


@given(
    intervals=st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)), max_size=8),
    begin=st.integers(0, 50),
    end=st.integers(0, 50),
)
def test_length_counts_every_moment_once(intervals: list[tuple[int, int]], begin: int, end: int) -> None:
    moments = {at for first, last in intervals for at in range(first, last)}
    assert verify.length(intervals, begin, end) == len(moments & set(range(begin, end)))
