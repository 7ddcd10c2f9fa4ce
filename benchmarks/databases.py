"""Databases to measure in, and the bare COPY that every way onto the tape is compared with."""

from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic, perf_counter, sleep
from urllib.parse import urlsplit
from uuid import uuid4

from psycopg import Connection, Cursor, sql
from psycopg.errors import InsufficientPrivilege

import migrations
from deltatape import settings
from storage.database import connect

_DROP_SECONDS = 30.0
TABLES = ("trades", "orderbook_snapshots", "candles", "cvd_snapshots")


@contextmanager
def fresh_database() -> Iterator[str]:
    """A fresh, migrated database on the server in force, dropped afterwards."""
    url = settings.load().database()
    name = f"bench_{uuid4().hex[:12]}"
    with connect(url, autocommit=True) as admin:
        admin.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        try:
            fresh = urlsplit(url)._replace(path=f"/{name}").geturl()
            migrations.upgrade(fresh)
            yield fresh
        finally:
            _drop(admin, name)


def _drop(admin: Connection, name: str) -> Cursor:
    """A worker of the server's own may still look at it, which is not ours to end: it ends by itself."""
    statement = sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name))
    until = monotonic() + _DROP_SECONDS
    while True:
        try:
            return admin.execute(statement)
        except InsufficientPrivilege:
            if monotonic() > until:
                raise
            sleep(0.1)


def raw_copy(url: str, bare: str) -> tuple[int, float]:
    """Copy the rows of one database into another's same tables as prepared bytes; rows and seconds."""
    rows, seconds = 0, 0.0
    with connect(url) as source, connect(bare) as target:
        for name in TABLES:
            table = sql.Identifier(name)
            rows_of = sql.SQL("COPY (SELECT * FROM {} ORDER BY timestamp) TO STDOUT (FORMAT BINARY)")
            with source.cursor() as cursor, cursor.copy(rows_of.format(table)) as copy:
                data = b"".join(copy)
            began = perf_counter()
            with target.cursor() as cursor:
                with cursor.copy(sql.SQL("COPY {} FROM STDIN (FORMAT BINARY)").format(table)) as copy:
                    copy.write(data)
                rows += cursor.rowcount
            target.commit()
            seconds += perf_counter() - began
    return rows, seconds
