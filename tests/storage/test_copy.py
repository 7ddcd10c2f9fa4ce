from struct import Struct
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg.errors import CheckViolation, UniqueViolation
from psycopg.pq import TransactionStatus
from psycopg.types.json import Jsonb
from streaming import MIDNIGHT

from market.timeframe import from_datetime
from storage.copy import (
    NULL,
    Packed,
    all_or_nothing,
    copy_rows,
    text_field,
    upsert_rows,
    wire_time,
    wire_types,
)
from storage.database import Connection, connect
from storage.tables import metadata

FUNDING = ("timestamp", "exchange", "symbol", "rate", "mark_price")
TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))
KEY = ("exchange", "symbol", "timestamp")


def row(number: int, rate: float = 0.0, price: float | None = None) -> tuple[Any, ...]:
    return (MIDNIGHT + number, "simulated", "BTC/USDT", rate, price)


def stored(connection: Connection) -> list[tuple[Any, ...]]:
    found = connection.execute("SELECT timestamp, rate, mark_price FROM funding_rates ORDER BY timestamp")
    return [(from_datetime(at) - MIDNIGHT, rate, price) for at, rate, price in found]


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    time=st.integers(-(10**15), 4 * 10**15),
    rate=st.floats(allow_nan=False, allow_infinity=False),
    note=st.lists(st.booleans() | st.integers(-(2**53), 2**53) | TEXTS | st.lists(TEXTS | st.none())),
)
def test_every_value_arrives_as_it_was(connection: Connection, time: int, rate: float, note: object) -> None:
    columns = ("timestamp", "component", "metric", "value", "labels")
    with connection.transaction(force_rollback=True):
        copy_rows(connection, "system_metrics", columns, [(time, "test", "rate", rate, note)])
        found = connection.execute(
            "SELECT timestamp, value, labels = %s FROM system_metrics", (Jsonb(note),)
        ).fetchone()
        assert found is not None
        assert (from_datetime(found[0]), found[1], found[2]) == (time, rate, True)


def test_every_column_has_a_type_that_the_server_knows(connection: Connection) -> None:
    for table in metadata.tables:
        for column, name in wire_types(table).items():
            assert connection.adapters.types.get(name.removesuffix("[]")), (table, column, name)


def test_a_stored_row_refuses_the_batch_and_leaves_the_transaction_usable(connection: Connection) -> None:
    copy_rows(connection, "funding_rates", FUNDING, [row(1)])
    with pytest.raises(UniqueViolation), all_or_nothing(connection):
        copy_rows(connection, "funding_rates", FUNDING, [row(0), row(1)])
    assert stored(connection) == [(1, 0.0, None)]


def test_what_no_column_takes_is_refused(connection: Connection) -> None:
    with pytest.raises(CheckViolation):
        copy_rows(connection, "funding_rates", FUNDING, [row(1, price=-1.0)])


def test_packed_rows_arrive_however_many_they_are(connection: Connection) -> None:
    names = text_field("simulated") + text_field("BTC/USDT")

    def pack(number: int) -> bytes:
        return (
            Struct("!hiq").pack(5, 8, wire_time(MIDNIGHT + number))
            + names
            + Struct("!id").pack(8, number)
            + NULL
        )

    assert copy_rows(connection, "funding_rates", FUNDING, Packed(range(4500), pack)) == 4500
    assert stored(connection) == [(number, number, None) for number in range(4500)]


def test_an_upsert_fills_in_or_replaces(connection: Connection) -> None:
    def upsert(*rows: tuple[Any, ...], is_update: bool) -> int:
        return upsert_rows(connection, "funding_rates", FUNDING, rows, KEY, is_update=is_update)

    assert upsert(row(1, 0.1), row(2, 0.2), is_update=False) == 2
    assert upsert(row(1, 0.9), row(3, 0.3), is_update=False) == 1
    assert stored(connection) == [(1, 0.1, None), (2, 0.2, None), (3, 0.3, None)]
    assert upsert(row(1, 0.9), row(2, 0.2), row(3, 0.3, 5.0), is_update=True) == 2
    assert stored(connection) == [(1, 0.9, None), (2, 0.2, None), (3, 0.3, 5.0)]


def test_the_staging_table_is_empty_for_the_next_batch(connection: Connection) -> None:
    for number in range(2):
        upsert_rows(connection, "funding_rates", FUNDING, [row(number)], KEY, is_update=True)
        connection.commit()
        found = connection.execute("SELECT count(*) FROM pg_temp.staged_funding_rates").fetchone()
        assert found == (0,)
        connection.commit()


def test_nothing_is_committed_for_the_caller(database: str, connection: Connection) -> None:
    assert connection.info.transaction_status is TransactionStatus.IDLE
    with all_or_nothing(connection):
        copy_rows(connection, "funding_rates", FUNDING, [row(1)])
    assert connection.info.transaction_status is TransactionStatus.INTRANS
    with connect(database) as other:
        assert stored(other) == []
    connection.commit()
    with connect(database) as other:
        assert len(stored(other)) == 1


def test_with_autocommit_it_is_a_transaction_of_its_own(database: str) -> None:
    with connect(database, autocommit=True) as connection:
        with all_or_nothing(connection):
            upsert_rows(connection, "funding_rates", FUNDING, [row(1)], KEY, is_update=True)
        with connect(database) as other:
            assert len(stored(other)) == 1
