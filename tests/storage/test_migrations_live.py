"""Migrations of a database that is full, that is being written, and whose upgrade is killed half-way."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import psycopg
import pytest
from psycopg import sql
from test_tables import AT, NOON, ROWS

import migrations
from storage.database import Connection, connect
from storage.tables import metadata
from tests.soak.parts import eventually

CALIBRATION = {
    "strategy_name": "composite",
    "config_hash": "c0ffee",
    "exchange": "coinbase",
    "symbol": "BTC/USD",
    "interval": "1m",
    "horizon": "1 hour",
    "cutoff_timestamp": NOON,
    "window_from": NOON,
    "bins": "[]",
    "sample_count": 1,
}
MORE: dict[str, dict[str, Any]] = {
    "calibrations": CALIBRATION,
    "instrument_changes": {**AT, "field": "tick_size"},
    "signal_state": {
        **{
            name: CALIBRATION[name]
            for name in ("strategy_name", "config_hash", "exchange", "symbol", "interval")
        },
        "candle_watermark": NOON,
        "settled_watermark": NOON,
        "revision_watermark": 0,
        "last_type": "BUY",
    },
    "signal_outcomes": {
        "signal_id": 1,
        "horizon": "1 hour",
        "outcome_timestamp": NOON,
        "return_net": 0.1,
        "is_right": True,
    },
    "alert_mutes": {"channel": "phone", "until_timestamp": NOON},
    "channel_calls": {"place": "telegram:7", "began_timestamp": NOON},
    "chat_watches": {"chat_id": -7, "exchange": "kraken", "symbol": "BTC/USD"},
    "compressions": {},
    "past_days": {
        "exchange": "coinbase",
        "symbol": "BTC/USD",
        "table_name": "trades",
        "day": NOON,
        "row_count": 1,
        "dropped_timestamp": NOON,
    },
}


EMPTIED = {"0009": {"calibrations"}}
"""Tables whose rows a downgrade from a revision deletes though the table stays."""


def fill(connection: Connection) -> None:
    """One row in every table; in those that refer to others after them."""
    for table in metadata.sorted_tables:
        row = {**ROWS.get(table.name, MORE.get(table.name, {}))}
        if not row:
            row = {column.name: _any_value(column) for column in table.c if _must_be_given(column)}
        if table.name == "signals":
            row["id"] = 1
        names = sql.SQL(", ").join(map(sql.Identifier, row))
        places = sql.SQL(", ").join(sql.Placeholder() * len(row))
        connection.execute(
            sql.SQL("INSERT INTO {} ({}) VALUES ({})").format(sql.Identifier(table.name), names, places),
            list(row.values()),
        )


def _must_be_given(column: Any) -> bool:
    return not (column.nullable or column.server_default is not None or column.identity or column.computed)


def _any_value(column: Any) -> Any:
    kind = str(column.type)
    if "TIMESTAMP" in kind or "DATETIME" in kind:
        return NOON
    return "x" if kind == "TEXT" else 1


def rows(url: str) -> dict[str, list[Any]]:
    """What every table of ours holds, as far as it is there."""
    found = {}
    with connect(url) as connection:
        for table in metadata.tables:
            if connection.execute("SELECT to_regclass(%s)", [table]).fetchone() != (None,):
                query = sql.SQL("SELECT to_jsonb(t) FROM {} AS t").format(sql.Identifier(table))
                found[table] = [row for (row,) in connection.execute(query)]
    return found


def test_a_full_database_goes_down_and_up_again(database: str) -> None:
    with connect(database) as connection:
        fill(connection)
    full = rows(database)
    assert {table for table, held in full.items() if len(held) != 1} == set()
    for below, name in list(pairwise(migrations.revisions()))[::-1]:
        before = rows(database)
        migrations.downgrade(database, below)
        left = rows(database)
        # What is undone takes its own tables and columns along, and nothing else.
        for table in left.keys() - EMPTIED.get(name, set()):
            kept = [{key: row[key] for key in left[table][0]} for row in before[table]]
            assert kept == left[table], (name, table)
        migrations.upgrade(database, name)
        again = rows(database)
        assert {table: len(held) for table, held in again.items()} == {
            table: len(left.get(table, [])) for table in before
        }
        migrations.downgrade(database, below)


@contextmanager
def holding(url: str, table: str) -> Iterator[None]:
    """Nobody gets at this table while the context lasts."""
    with connect(url) as connection:
        connection.execute(sql.SQL("LOCK TABLE {}").format(sql.Identifier(table)))
        yield


def waiting(url: str) -> bool:
    with connect(url) as connection:
        query = "SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        return connection.execute(query).fetchone() is not None


def test_an_upgrade_that_is_killed_half_way_is_none(empty_database: str) -> None:
    migrations.upgrade(empty_database, "0002")
    before = rows(empty_database)
    command = [
        sys.executable,
        "-c",
        "import sys, migrations; migrations.upgrade(sys.argv[1])",
        empty_database,
    ]
    # The views of 0006 read this table: by then 0003 to 0005 are done, in a transaction that is still open.
    with holding(empty_database, "trades"):
        upgrade = subprocess.Popen(command, env=dict(os.environ))
        eventually(lambda: waiting(empty_database), 60, "the upgrade is half-way")
        upgrade.kill()
        upgrade.wait()
    assert migrations.current(empty_database) == "0002"
    assert rows(empty_database) == before
    migrations.upgrade(empty_database)
    assert migrations.current(empty_database) == migrations.head()
    assert rows(empty_database).keys() == set(metadata.tables)


class Load(threading.Thread):
    """Writes what every version writes, a transaction after another, until it is ended."""

    def __init__(self, url: str) -> None:
        super().__init__(daemon=True)
        self.url, self.committed, self.is_ended = url, 0, threading.Event()
        self.error: psycopg.Error | None = None

    def run(self) -> None:
        try:
            with connect(self.url) as connection:
                while not self.is_ended.is_set():
                    self._write(connection, self.committed)
                    connection.commit()
                    self.committed += 1
        except psycopg.Error as error:
            self.error = error

    def _write(self, connection: Connection, number: int) -> None:
        at = {"number": number, "id": str(number)}
        connection.execute(
            "INSERT INTO trades (timestamp, exchange, symbol, trade_id, trade_seq, price, size, cvd_at_trade)"
            " VALUES (to_timestamp(%(number)s * 600), 'x', 'A/B', %(id)s, %(number)s, 1, 1, 0)",
            at,
        )
        connection.execute(
            "INSERT INTO candles (timestamp, exchange, symbol, interval, open, high, low, close, volume,"
            " is_closed, is_whole, source) VALUES"
            " (to_timestamp(%(number)s * 600), 'x', 'A/B', '5m', 1, 1, 1, 1, 1, true, true, 'exchange')",
            at,
        )
        connection.execute(
            "INSERT INTO stream_state"
            " (exchange, symbol, stream, watermark, watermark_timestamp, epoch, status)"
            " VALUES ('x', 'A/B', 'trades', %(id)s, now(), 1, 'live')"
            " ON CONFLICT (exchange, symbol, stream) DO UPDATE SET watermark = excluded.watermark",
            at,
        )


@pytest.mark.parametrize("first", ["0002", "0006"])
def test_an_upgrade_while_the_tables_are_written(empty_database: str, first: str) -> None:
    migrations.upgrade(empty_database, first)
    load = Load(empty_database)
    load.start()
    eventually(lambda: load.committed > 20, 60, "the load runs")
    migrations.upgrade(empty_database)
    count = load.committed
    eventually(lambda: load.committed > count, 60, "it runs on")
    load.is_ended.set()
    load.join(30)
    assert load.error is None
    found = rows(empty_database)
    assert len(found["trades"]) == len(found["candles"]) == load.committed
    assert found["stream_state"][0]["watermark"] == str(load.committed - 1)
