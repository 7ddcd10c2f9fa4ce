"""Metrics: written once, read back by their labels, forgotten by chunks."""

from market import DAY
from storage.metrics import forget_metrics, newest_metrics, write_metrics

SECOND = 1_000_000
NOW = 1_700_000_000 * SECOND
KRAKEN, BINANCE = {"exchange": "kraken"}, {"exchange": "binance"}


def count(connection):
    return connection.execute("SELECT count(*) FROM system_metrics").fetchone()[0]


def test_the_newest_values_of_each_label(connection):
    write_metrics(connection, "collector", NOW, {"messages": 1.0, "trades": 0.5}, KRAKEN)
    write_metrics(connection, "collector", NOW + SECOND, {"messages": 2.0, "trades": 1.5}, KRAKEN)
    write_metrics(connection, "collector", NOW, {"messages": 9.0}, BINANCE)
    write_metrics(connection, "signals", NOW + SECOND, {"messages": 7.0}, KRAKEN)
    found = newest_metrics(connection, "collector", ["messages", "trades"], [KRAKEN, BINANCE], NOW - SECOND)
    assert [(one.labels["exchange"], one.values) for one in found] == [
        ("binance", {"messages": 9.0}),
        ("kraken", {"messages": 2.0, "trades": 1.5}),
    ]
    assert newest_metrics(connection, "collector", ["trades"], [KRAKEN], NOW)[0].values == {"trades": 1.5}
    assert newest_metrics(connection, "collector", ["messages"], [BINANCE], NOW) == []
    assert newest_metrics(connection, "collector", ["messages"], [], NOW - DAY) == []


def test_writing_again_changes_nothing(connection):
    for value in (1.0, 2.0):
        write_metrics(connection, "collector", NOW, {"messages": value}, KRAKEN)
    assert count(connection) == 1
    (found,) = newest_metrics(connection, "collector", ["messages"], [KRAKEN], NOW - 1)
    assert found.values == {"messages": 1.0}


def test_no_values_are_no_rows(connection):
    write_metrics(connection, "collector", NOW, {}, KRAKEN)
    assert count(connection) == 0


def test_old_chunks_are_dropped_and_newer_stay(connection):
    now = connection.execute("SELECT (extract(epoch FROM now()) * 1000000)::bigint").fetchone()[0]
    for age in (0, 20, 45, 400):
        write_metrics(connection, "collector", now - age * DAY, {"messages": 1.0}, KRAKEN)
    forget_metrics(connection)
    assert count(connection) == 2
