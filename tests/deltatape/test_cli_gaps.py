"""`deltatape gaps` as a user runs it: the holes on record, and acknowledging one."""

import json

import pytest

from storage.database import connect


@pytest.fixture
def recorded(database):
    """An open hole, a healed one, a break of a book."""
    with connect(database) as connection:
        connection.execute(
            """
            INSERT INTO stream_gaps (exchange, symbol, stream, from_timestamp, to_timestamp, from_id, to_id,
                missing_count, cause, status, proof, healed_timestamp, healed_count, note)
            VALUES ('binance', 'BTC/USDT', 'trades', '2026-03-01T10:00Z', '2026-03-01T10:01Z', '5', '14', 10,
                    'ids_missing', 'confirmed', 'ids', NULL, NULL, NULL),
                ('kraken', 'BTC/USD', 'trades', '2026-03-01T11:00Z', '2026-03-01T11:01Z', '7', '8', 2,
                    'ids_missing', 'healed', 'ids', '2026-03-01T12:00Z', 1, '1 of 2 ids was never given'),
                ('binance', 'BTC/USDT', 'book', '2026-03-01T12:00Z', '2026-03-01T12:00:30Z', NULL, NULL, NULL,
                    'crossed', 'unhealable', 'connection', NULL, NULL, NULL)
            """
        )


def listed(cli, *arguments):
    done = cli("gaps", *arguments, "--json")
    assert done.returncode == 0, done.stderr
    return [(gap["exchange"], gap["stream"], gap["status"]) for gap in json.loads(done.stdout)]


def test_no_hole_is_said_so(cli):
    done = cli("gaps")
    assert done.returncode == 0
    assert "deltatape verify" in done.stdout
    assert json.loads(cli("gaps", "--json").stdout) == []


def test_holes_are_listed(cli, recorded):
    standing, healed, book = (
        ("binance", "trades", "confirmed"),
        ("kraken", "trades", "healed"),
        ("binance", "book", "unhealable"),
    )
    assert listed(cli) == [standing]
    assert listed(cli, "--all") == [standing, healed, book]
    assert listed(cli, "--status", "healed") == [healed]
    assert listed(cli, "--all", "--exchange", "binance") == [standing, book]
    assert listed(cli, "--all", "--symbol", "BTC/USD") == [healed]
    (gap,) = json.loads(cli("gaps", "--json").stdout)
    assert (gap["from_timestamp"], gap["seconds"], gap["missing_count"]) == ("2026-03-01T10:00:00Z", 60.0, 10)
    shown = cli("gaps", "--all").stdout
    for words in ("10:00:00", "1.0 min", "5–14", "ids_missing", "1 filled", "1 of 2 ids"):
        assert words in shown


def test_acknowledging_takes_a_second_step(cli, recorded):
    arguments = ("gaps", "ack", "1", "--note", "maintenance")
    done = cli(*arguments)
    assert done.returncode == 2
    assert "--yes" in done.stderr
    assert listed(cli) == [("binance", "trades", "confirmed")]
    done = cli(*arguments, "--yes", "--json")
    assert done.returncode == 0, done.stderr
    gap = json.loads(done.stdout)["gap"]
    assert (gap["status"], gap["note"]) == ("unhealable", "acknowledged: maintenance")
    assert listed(cli) == [("binance", "trades", "unhealable")]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--status", "lost"), "unknown status 'lost'"),
        (("ack", "9", "--note", "x", "--yes"), "no hole has the id 9"),
        (("ack", "2", "--note", "x", "--yes"), "is healed"),
        (("ack", "1", "--note", " ", "--yes"), "say why"),
    ],
)
def test_wrong_use_is_one_line(cli, recorded, arguments, says):
    done = cli("gaps", *arguments)
    assert done.returncode == 2
    assert says in done.stderr
    assert len(done.stderr.splitlines()) == 1
