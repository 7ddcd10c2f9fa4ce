"""How streams are by their heartbeat, and who holds the right to write them."""

import time
from datetime import UTC, datetime, timedelta

from storage import ledger, streams
from storage.database import connect

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def row(status="live", silent=0.0, detail=""):
    updated = NOW - timedelta(seconds=silent)
    return streams.StreamRow("kraken", "BTC/USD", "trades", status, detail, updated, NOW, 0)


def test_a_state_is_what_the_collector_said_while_it_speaks():
    assert row().state(NOW) == ("live", "")
    assert row("stale", 4.9, "silent for 80 s").state(NOW) == ("stale", "silent for 80 s")
    assert row("live", 5.1).state(NOW) == ("down", "no heartbeat")
    assert row("healing", 60).state(NOW) == ("down", "no heartbeat")
    # One that was stopped in order said so, however long ago.
    assert row("down", 9e6, "stopped").state(NOW) == ("down", "stopped")
    assert not row("down", 9e6).has_stopped(NOW)


def test_streams_come_with_their_open_holes(connection):
    assert streams.list_streams(connection) == []
    ledger.next_epoch(connection, "kraken", "BTC/USD", "trades")
    for status in ("confirmed", "suspected", "healed"):
        connection.execute(
            "INSERT INTO stream_gaps"
            " (exchange, symbol, stream, from_timestamp, to_timestamp, cause, status, proof)"
            " VALUES ('kraken', 'BTC/USD', 'trades', now(), now(), 'test', %s, 'ids')",
            [status],
        )
    (found,) = streams.list_streams(connection)
    assert (found.exchange, found.symbol, found.stream, found.status) == (
        "kraken",
        "BTC/USD",
        "trades",
        "down",
    )
    assert found.open_gaps == 2
    assert found.watermark_timestamp is None
    assert found.silence(streams.server_time(connection)) < timedelta(seconds=30)


def test_the_holder_of_a_lock_is_found(database, connection):
    ledger.next_epoch(connection, "kraken", "BTC/USD", "trades")
    ledger.next_epoch(connection, "kraken", "ETH/USD", "trades")
    connection.commit()
    # Within one transaction the list of sessions stays as it was.
    connection.autocommit = True
    assert streams.lock_holders(connection) == []
    with connect(database, application_name="deltatape live kraken", autocommit=True) as other:
        other.execute("SELECT pg_advisory_lock(hashtextextended('kraken:BTC/USD', 0))")
        other.execute("SELECT pg_advisory_lock(12345)")
        (found,) = streams.lock_holders(connection)
        assert (found.symbol, found.application_name) == ("BTC/USD", "deltatape live kraken")
        assert found.pid == other.info.backend_pid
    # Its client is gone at once, the server's side of it a little later.
    while streams.lock_holders(connection):
        time.sleep(0.01)
