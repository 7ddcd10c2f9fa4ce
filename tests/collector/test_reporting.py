"""Readings reach the database beside the collector, and are skipped while it is away."""

import asyncio
import logging

from collector.metrics import Meter
from collector.reporting import COMPONENT, Reporter, keep_reporting
from collector.session import Counts
from storage.database import connect
from storage.metrics import newest_metrics

SECOND = 1_000_000
NOW = 1_700_000_000 * SECOND
LABELS = [{"exchange": "kraken"}]


def reading(now=NOW, messages=1):
    return Meter("kraken").reading(now, Counts(messages=messages))


def stored(url):
    with connect(url) as connection:
        return newest_metrics(connection, COMPONENT, ["messages"], LABELS, 0)


def test_a_reading_is_stored(database):
    reporter = Reporter(database)
    assert reporter.write([])
    assert stored(database) == []
    assert reporter.write([reading()])
    assert reporter.write([reading(NOW + SECOND, 5)])
    (found,) = stored(database)
    assert found.values == {"messages": 5.0}
    reporter.close()


def test_a_database_that_is_away_is_no_failure(database, caplog):
    caplog.set_level(logging.INFO, "collector.reporting")
    nowhere = Reporter("postgresql://127.0.0.1:1/none")
    assert not nowhere.write([reading()])
    assert not nowhere.write([reading()])
    assert len(caplog.records) == 1


def test_it_connects_again_after_its_session_was_ended(database):
    reporter = Reporter(database)
    assert reporter.write([reading()])
    with connect(database, autocommit=True) as other:
        other.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE application_name = 'deltatape-metrics' AND datname = current_database()"
        )
    assert not reporter.write([reading(NOW + SECOND, 2)])
    assert reporter.write([reading(NOW + 2 * SECOND, 3)])
    assert stored(database)[0].values == {"messages": 3.0}
    reporter.close()


def test_it_reports_until_it_is_cancelled(database):
    taken = []

    def read():
        taken.append(reading(NOW + len(taken) * SECOND, len(taken)))
        return taken[-1:]

    async def run():
        reporting = asyncio.create_task(keep_reporting(database, read, seconds=0.01))
        while len(taken) < 4:
            await asyncio.sleep(0.01)
        reporting.cancel()
        await asyncio.gather(reporting, return_exceptions=True)
        assert reporting.cancelled()

    asyncio.run(run())
    (found,) = stored(database)
    # The one that was under way when it was cancelled is there too.
    assert found.values == {"messages": float(len(taken) - 1)}
