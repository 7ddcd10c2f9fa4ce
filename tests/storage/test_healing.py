"""A hole that is filled part by part: what was never given stays explained, the tape is right throughout."""

import pytest
from streaming import EXCHANGE, MIDNIGHT, MINUTE, SECOND, SYMBOL, Span, Streaming

from market import Instrument, Side, Trade
from storage import healing, ledger, repair, verify
from storage.amend import amend
from storage.database import Connection
from storage.healing import Part
from storage.holes import Hole, list_holes
from storage.instruments import write_instruments


def trades_of(numbers: range, begin: int = MIDNIGHT) -> list[Trade]:
    """One a second, numbered by its second."""
    return [Trade(SYMBOL, begin + n * SECOND, str(n), n, 100.0, 0.5, Side.BUY) for n in numbers]


def write_with_hole(connection: Connection) -> Hole:
    """Trades 1 to 9 and 100 to 200 are stored, the ids between them are known to be missing."""
    before, after = trades_of(range(1, 10)), trades_of(range(100, 201))
    known = Instrument(
        exchange=EXCHANGE,
        symbol=SYMBOL,
        exchange_symbol="BTCUSDT",
        base="BTC",
        quote="USDT",
        trade_ids_consecutive=True,
    )
    write_instruments(connection, [known])
    end = before[-1].timestamp + 1
    spans = [Span(before, end), Span(after, after[-1].timestamp + MINUTE)]
    Streaming().run(spans, []).write(connection)
    ledger.add_gap(
        connection,
        EXCHANGE,
        SYMBOL,
        "trades",
        end,
        after[0].timestamp,
        cause="ids_missing",
        status="confirmed",
        proof="ids",
        from_id="10",
        to_id="99",
        missing_count=90,
    )
    return open_gap(connection)


def open_gap(connection: Connection) -> Hole:
    (gap,) = list_holes(connection, statuses=("suspected", "confirmed"))
    return gap


def assert_proven(connection: Connection) -> None:
    connection.commit()
    with verify.snapshot(connection, EXCHANGE, SYMBOL) as tape:
        assert [proof.ok for proof in map(tape.prove, tape.days)] == [True]


@pytest.mark.parametrize("given", [range(10, 10), range(20, 30)])
def test_ids_that_were_never_given_in_a_part_are_missing_no_more(
    connection: Connection, given: range
) -> None:
    gap = write_with_hole(connection)
    middle = MIDNIGHT + 50 * SECOND
    part = Part(gap.from_timestamp, middle, 10, 49)
    assert healing.fill(connection, gap, part, trades_of(given)) == len(given)
    rest = open_gap(connection)
    assert (rest.from_id, rest.to_id, rest.missing_count) == ("50", "99", 50)
    assert healing.fill(connection, rest, Part(middle, gap.to_timestamp, 50, 99), []) == 0
    assert_proven(connection)
    rows = connection.execute(
        "SELECT from_id, to_id, missing_count, healed_count FROM stream_gaps"
    ).fetchall()
    assert sorted(rows) == [("10", "49", 40, len(given)), ("50", "99", 50, 0)]


def test_trades_that_were_only_late_are_not_taken_for_ids_that_were_never_given(
    connection: Connection,
) -> None:
    gap = write_with_hole(connection)
    whole = Part(gap.from_timestamp, gap.to_timestamp, 10, 99)
    amend(connection, EXCHANGE, SYMBOL, trades_of(range(10, 40)), None, [], "late_trade")
    assert healing.fill(connection, gap, whole, trades_of(range(10, 100))) == 60
    assert connection.execute("SELECT healed_count FROM stream_gaps").fetchall() == [(90,)]
    assert_proven(connection)


def test_holes_of_one_moment_are_told_apart_by_their_ids(connection: Connection) -> None:
    gap = write_with_hole(connection)
    moment = MIDNIGHT + 300 * SECOND
    same = [Trade(SYMBOL, moment, str(n), n, 100.0, 0.5, Side.BUY) for n in (202, 204, 206)]
    span = Span([*trades_of(range(201, 202)), *same], moment + 1)
    begin = MIDNIGHT + 200 * SECOND
    whole = ledger.Span(begin, moment + 1, "201", "206", "ids", "live", 0)
    healing.fill(
        connection, gap, Part(gap.from_timestamp, gap.to_timestamp, 10, 99), trades_of(range(10, 100))
    )
    amend(connection, EXCHANGE, SYMBOL, span.trades, None, [whole], "late_trade")
    connection.commit()
    with verify.snapshot(connection, EXCHANGE, SYMBOL) as tape:
        runs = tape.prove(MIDNIGHT).missing_runs
    assert [(run.first, run.last) for run in runs] == [(203, 203), (205, 205)]
    assert repair.record_holes(connection, EXCHANGE, SYMBOL, runs) == 2
    holes = list_holes(connection, statuses=("confirmed",))
    assert [(hole.from_id, hole.from_timestamp, hole.to_timestamp) for hole in holes] == [
        ("203", moment, moment),
        ("205", moment, moment),
    ]
    connection.commit()
    with verify.snapshot(connection, EXCHANGE, SYMBOL) as tape:
        assert tape.prove(MIDNIGHT).ids_missing == 0
