import json

from storage.database import connect


def test_a_database_that_fits_together(cli):
    empty = cli("db", "check")
    assert empty.returncode == 0, empty.stderr
    assert "no market data is there" in empty.stdout


def test_what_is_wrong_is_named_with_its_remedy(cli, database):
    with connect(database) as connection:
        connection.execute(
            "INSERT INTO candles (timestamp, exchange, symbol, interval, open, high, low, close, volume,"
            " is_closed, is_whole, source, trade_count)"
            " VALUES ('2026-03-01T00:00:00Z', 'x', 'A/B', '1m', 1, 2, 1, 1, 1, true, true, 'exchange', 0)"
        )
    done = cli("db", "check", "--from", "2026-03-01")
    assert done.returncode == 1
    assert "✗ candles name instruments that are not there: 1\n  x A/B\n  → " in done.stdout
    assert "✗ 2 of " in done.stdout
    found = json.loads(cli("db", "check", "--full", "--json").stdout)
    assert not found["ok"]
    assert (found["from"], found["to"]) == ("2026-03-01T00:00:00Z", "2026-03-02T00:00:00Z")
    assert {one["rule"]: one["examples"] for one in found["broken"]} == {
        "candles name instruments that are not there": ["x A/B"],
        "candles without trades move": ["x A/B 1m 2026-03-01 00:00:00+00"],
    }
