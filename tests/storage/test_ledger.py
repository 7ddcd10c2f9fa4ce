import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from streaming import EXCHANGE, MIDNIGHT, SYMBOL, cover

from market import Side, Trade, Unavailable
from storage import ledger, tape
from storage.database import Connection
from storage.holes import list_holes

OWNERS: list[tuple[ledger.Proof, ledger.Origin]] = [("ids", "live"), ("rest", "healed"), ("file", "import")]
pieces = st.lists(
    st.tuples(st.integers(0, 25), st.integers(0, 12), st.sampled_from(OWNERS), st.integers(0, 3)),
    max_size=10,
)


def trade_at(moment: int) -> Trade:
    return Trade(SYMBOL, MIDNIGHT + moment, f"{moment}", 0, 1.0, 1.0, Side.BUY)


def stored(connection: Connection) -> list[tuple[int, int, str, str, int]]:
    found = ledger.spans(connection, EXCHANGE, SYMBOL, "trades")
    return [
        (s.from_timestamp - MIDNIGHT, s.to_timestamp - MIDNIGHT, s.proof, s.origin, s.row_count)
        for s in found
    ]


def expected(owners: dict[int, tuple[str, str]], trades: set[int]) -> list[tuple[int, int, str, str, int]]:
    """Runs of neighbours of one owner, with the trades in each."""
    runs: list[list[int]] = []
    for moment in sorted(owners):
        if runs and runs[-1][-1] == moment - 1 and owners[runs[-1][-1]] == owners[moment]:
            runs[-1].append(moment)
        else:
            runs.append([moment])
    return [(run[0], run[-1] + 1, *owners[run[0]], len(trades & set(run))) for run in runs]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pieces=pieces)
def test_spans_never_overlap_and_count_their_rows(
    connection: Connection, pieces: list[tuple[int, int, tuple[ledger.Proof, ledger.Origin], int]]
) -> None:
    owners: dict[int, tuple[str, str]] = {}
    trades: set[int] = set()
    with connection.transaction(force_rollback=True):
        for begin, length, owner, every in pieces:
            covered = range(begin, begin + length)
            new = {moment for moment in covered if every and moment % every == 0} - trades
            tape.merge_trades(connection, EXCHANGE, [trade_at(moment) for moment in new], None)
            proof, origin = owner
            grew = cover(
                connection,
                MIDNIGHT + begin,
                MIDNIGHT + begin + length,
                proof=proof,
                origin=origin,
                row_count=len(new),
            )
            assert grew == any(moment not in owners for moment in covered)
            trades |= new
            for moment in covered:
                owners.setdefault(moment, owner)
            assert stored(connection) == expected(owners, trades)


def test_a_live_span_grows_in_one_row(connection: Connection) -> None:
    for begin in range(3):
        ledger.add_coverage(
            connection,
            EXCHANGE,
            SYMBOL,
            "trades",
            MIDNIGHT + begin,
            MIDNIGHT + begin + 1,
            f"{begin}",
            f"{begin}",
            "ids",
            "live",
            5,
        )
    (span,) = ledger.spans(connection, EXCHANGE, SYMBOL, "trades")
    assert (span.from_id, span.to_id, span.row_count) == ("0", "2", 15)
    assert ledger.spans(connection, EXCHANGE, SYMBOL, "book") == []
    assert ledger.spans(connection, EXCHANGE, "ETH/USDT", "trades") == []


def gap(connection: Connection, begin: int, end: int, status: ledger.GapStatus) -> bool:
    return ledger.add_gap(
        connection,
        EXCHANGE,
        SYMBOL,
        "trades",
        MIDNIGHT + begin,
        MIDNIGHT + end,
        cause="ids_missing",
        status=status,
        proof="ids",
        from_id="7",
        missing_count=3,
    )


def test_a_confirmed_hole_takes_coverage_back_once(connection: Connection) -> None:
    cover(connection, MIDNIGHT, MIDNIGHT + 10)
    assert gap(connection, 4, 6, "confirmed")
    assert [span[:2] for span in stored(connection)] == [(0, 4), (6, 10)]
    cover(connection, MIDNIGHT + 4, MIDNIGHT + 6, proof="rest", origin="healed")
    assert not gap(connection, 4, 6, "confirmed")
    assert [span[:2] for span in stored(connection)] == [(0, 4), (4, 6), (6, 10)]


def test_a_hole_at_a_span_s_edges(connection: Connection) -> None:
    cover(connection, MIDNIGHT + 3, MIDNIGHT + 6)
    assert not gap(connection, 6, 9, "confirmed")
    assert not gap(connection, 0, 3, "confirmed")
    assert gap(connection, 5, 9, "confirmed")
    assert [span[:2] for span in stored(connection)] == [(3, 5)]
    assert gap(connection, 2, 9, "confirmed")
    assert stored(connection) == []


def test_a_suspected_hole_is_listed_and_takes_nothing(connection: Connection) -> None:
    cover(connection, MIDNIGHT, MIDNIGHT + 10)
    assert not gap(connection, 4, 6, "suspected")
    assert [span[:2] for span in stored(connection)] == [(0, 10)]
    (row,) = list_holes(connection, exchange=EXCHANGE, symbol=SYMBOL, statuses=["suspected", "confirmed"])
    assert (row.from_timestamp, row.to_timestamp) == (MIDNIGHT + 4, MIDNIGHT + 6)
    assert (row.exchange, row.stream, row.cause, row.status) == (
        EXCHANGE,
        "trades",
        "ids_missing",
        "suspected",
    )
    assert (row.from_id, row.to_id, row.missing_count, row.note) == ("7", None, 3, None)
    assert list_holes(connection, statuses=["healed"]) == []
    assert list_holes(connection, exchange="kraken") == []
    assert len(list_holes(connection)) == 1


def save(connection: Connection, watermark: int, epoch: int) -> None:
    ledger.save_state(
        connection,
        EXCHANGE,
        SYMBOL,
        "trades",
        watermark=f"{watermark}",
        watermark_timestamp=MIDNIGHT + watermark,
        epoch=epoch,
        status="live",
        detail="",
    )


def test_the_watermark_never_moves_back(connection: Connection) -> None:
    assert ledger.read_state(connection, EXCHANGE, SYMBOL, "trades") is None
    epoch = ledger.next_epoch(connection, EXCHANGE, SYMBOL, "trades")
    for watermark in (5, 9, 7):
        save(connection, watermark, epoch)
    state = ledger.read_state(connection, EXCHANGE, SYMBOL, "trades")
    assert state == ledger.StreamState("9", MIDNIGHT + 9, epoch, "live", "")


def test_a_newer_writer_fences_off_the_older(connection: Connection) -> None:
    older = ledger.next_epoch(connection, EXCHANGE, SYMBOL, "trades")
    save(connection, 1, older)
    newer = ledger.next_epoch(connection, EXCHANGE, SYMBOL, "trades")
    assert newer > older
    with pytest.raises(ledger.Superseded, match="another collector has taken over trades"):
        save(connection, 2, older)
    save(connection, 3, newer)
    state = ledger.read_state(connection, EXCHANGE, SYMBOL, "trades")
    assert state is not None
    assert (state.watermark, state.epoch) == ("3", newer)
    assert issubclass(ledger.Superseded, Unavailable)
