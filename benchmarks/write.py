"""Trades onto the tape: our two ways beside the bare COPY of the same bytes, and the ways of others.

Each way writes the same trades into a fresh database, a transaction for each batch.
"""

from collections.abc import Callable, Iterator, Sequence
from random import Random
from time import perf_counter

from sqlalchemy import create_engine, insert
from sqlalchemy.engine import make_url

from benchmarks import Figure, Figures
from benchmarks.databases import fresh_database
from market import MICROSECONDS, Side, Trade, parse_time
from market.timeframe import to_datetime
from storage import tables, tape
from storage.database import Connection, connect

ROWS = 200_000
BATCH = 10_000
FEW = 20_000
"""Rows for the ways that would take all day."""
EXCHANGE, SYMBOL = "binance", "BTC/USDT"
_COLUMNS = ", ".join(tape.TRADE_COLUMNS)

Row = tuple[Trade, float]


def run() -> Figures:
    """Rows a second of each way."""
    rows = _rows(ROWS)
    bound = _rate(rows, _bare)
    return [
        Figure("rows a second, COPY of their bytes alone", bound, "1/s"),
        Figure("rows a second, write_trades", _rate(rows, _write), "1/s", bound),
        Figure("rows a second, merge_trades, half of them stored", _rate_of_merging(rows), "1/s", bound),
        Figure("rows a second, psycopg executemany", _rate(rows[:FEW], _execute_many), "1/s", bound),
        Figure("rows a second, psycopg row by row", _rate(rows[:FEW], _execute_each), "1/s", bound),
        Figure("rows a second, SQLAlchemy insert", _rate(rows[:FEW], _sqlalchemy), "1/s", bound),
    ]


def _rows(count: int) -> list[Row]:
    start, random = parse_time("2026-03-01T00:00:00Z"), Random(1)
    return [
        (
            Trade(
                SYMBOL,
                start + i * MICROSECONDS // 10,
                str(i),
                i,
                round(random.uniform(49_000, 51_000), 2),
                round(random.uniform(0.00001, 1), 5),
                random.choice((Side.BUY, Side.SELL)),
                1,
            ),
            round(random.uniform(-100, 100), 5),
        )
        for i in range(count)
    ]


def _rate(rows: Sequence[Row], write: Callable[[str, Connection, Sequence[Row]], float]) -> float:
    """Rows a second of `write`, which says what it took."""
    with fresh_database() as url, connect(url) as connection:
        return len(rows) / write(url, connection, rows)


def _batches(rows: Sequence[Row]) -> Iterator[Sequence[Row]]:
    return (rows[begin : begin + BATCH] for begin in range(0, len(rows), BATCH))


def _bare(_: str, connection: Connection, rows: Sequence[Row]) -> float:
    packed = [b"".join(tape.packed_trades(EXCHANGE, batch, None).pieces()) for batch in _batches(rows)]
    began = perf_counter()
    for data in packed:
        query = f"COPY trades ({_COLUMNS}) FROM STDIN (FORMAT BINARY)".encode()
        with connection.cursor() as cursor, cursor.copy(query) as copy:
            copy.write(data)
        connection.commit()
    return perf_counter() - began


def _write(_: str, connection: Connection, rows: Sequence[Row]) -> float:
    began = perf_counter()
    for batch in _batches(rows):
        tape.write_trades(connection, EXCHANGE, batch, None)
        connection.commit()
    return perf_counter() - began


def _rate_of_merging(rows: Sequence[Row]) -> float:
    with fresh_database() as url, connect(url) as connection:
        _write(url, connection, rows[::2])
        began = perf_counter()
        for batch in _batches(rows):
            tape.merge_trades(connection, EXCHANGE, [trade for trade, _ in batch], None)
            connection.commit()
        return len(rows) / (perf_counter() - began)


def _values(rows: Sequence[Row]) -> list[tuple[object, ...]]:
    return [
        (
            to_datetime(trade.timestamp),
            EXCHANGE,
            trade.symbol,
            trade.trade_id,
            trade.trade_seq,
            trade.fill_count,
            trade.price,
            trade.size,
            trade.side,
            cvd,
            None,
        )
        for trade, cvd in rows
    ]


def _insert() -> bytes:
    return f"INSERT INTO trades ({_COLUMNS}) VALUES ({', '.join(['%s'] * len(tape.TRADE_COLUMNS))})".encode()


def _execute_many(_: str, connection: Connection, rows: Sequence[Row]) -> float:
    values, began = _values(rows), perf_counter()
    for begin in range(0, len(values), BATCH):
        with connection.cursor() as cursor:
            cursor.executemany(_insert(), values[begin : begin + BATCH])
        connection.commit()
    return perf_counter() - began


def _execute_each(_: str, connection: Connection, rows: Sequence[Row]) -> float:
    values, query, began = _values(rows), _insert(), perf_counter()
    for begin in range(0, len(values), BATCH):
        for row in values[begin : begin + BATCH]:
            connection.execute(query, row)
        connection.commit()
    return perf_counter() - began


def _sqlalchemy(url: str, _: Connection, rows: Sequence[Row]) -> float:
    values = [dict(zip(tape.TRADE_COLUMNS, row, strict=True)) for row in _values(rows)]
    engine = create_engine(make_url(url).set(drivername="postgresql+psycopg"))
    with engine.connect() as connection:
        began = perf_counter()
        for begin in range(0, len(values), BATCH):
            connection.execute(insert(tables.trades), values[begin : begin + BATCH])
            connection.commit()
        seconds = perf_counter() - began
    engine.dispose()
    return seconds
