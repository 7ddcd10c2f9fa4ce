"""Ten million trades into a polars frame: `read.trades` beside the fastest ways that there are.

Each way asks for the same rows in the same order, in a process of its own.
"""

import subprocess
from time import perf_counter
from typing import NamedTuple
from urllib.parse import parse_qs, quote, urlsplit

import adbc_driver_postgresql.dbapi as adbc
import connectorx
import polars as pl

from benchmarks import Figure, Figures, binary_copy
from benchmarks.apart import in_process, peak_memory
from benchmarks.databases import fresh_database
from deltatape import settings
from storage import read, server
from storage.database import connect

ROWS = 10_000_000
EXCHANGE, SYMBOL = "binance", "BTC/USDT"
_STATEMENT = (
    f"SELECT {', '.join(binary_copy.COLUMNS)} FROM trades"
    f" WHERE exchange = '{EXCHANGE}' AND symbol = '{SYMBOL}' ORDER BY timestamp, trade_seq"
)


class Read(NamedTuple):
    """What a way took: seconds, memory in MB beyond what it held before, and that of its frame."""

    seconds: float
    memory: float
    frame: float


def run() -> Figures:
    """Rows a second of each way, and the memory of ours."""
    with fresh_database() as url:
        fill(url, ROWS)
        ours = in_process(of_ours, url)
        peers = {
            "ADBC": in_process(of_adbc, url),
            "connectorx": in_process(of_connectorx, url),
            "binary COPY decoded by numba": in_process(of_copy, url),
        }
    fastest = max(ROWS / peer.seconds for peer in peers.values())
    figures = [Figure(f"rows a second, {name}", ROWS / peer.seconds, "1/s") for name, peer in peers.items()]
    return [
        *figures,
        Figure("rows a second, read.trades, to the fastest of these", ROWS / ours.seconds, "1/s", fastest),
        Figure("peak memory of read.trades, to its frame's own", ours.memory, "MB", ours.frame),
    ]


def fill(url: str, rows: int) -> None:
    """Trades, ten a second, whose prices and sizes look like a market's."""
    with connect(url) as connection:
        connection.execute(
            """
            INSERT INTO trades (timestamp, exchange, symbol, trade_id, trade_seq, price, size, side,
                cvd_at_trade, received_timestamp)
            SELECT moment, %(exchange)s, %(symbol)s, number::text, number,
                round((50000 + 5000 * sin(number / 1e5) + hashint8(number) %% 50)::numeric, 2),
                round((abs(hashint8(number + 7)) %% 100000 + 1)::numeric / 100000, 5),
                CASE WHEN hashint8(number) %% 2 = 0 THEN 'buy' ELSE 'sell' END,
                round((1000 * sin(number / 1e4))::numeric, 5), moment + interval '40 ms'
            FROM (
                SELECT number, timestamptz '2026-03-01Z' + number * interval '100 ms' AS moment
                FROM generate_series(0, %(rows)s - 1) AS number) AS each
            """,
            {"exchange": EXCHANGE, "symbol": SYMBOL, "rows": rows},
        )
        connection.commit()
        connection.autocommit = True
        connection.execute("VACUUM ANALYZE trades")


def of_ours(url: str) -> Read:
    """`read.trades`."""
    before, began = peak_memory(), perf_counter()
    frame = read.trades(url, EXCHANGE, SYMBOL)
    return _done(frame, before, perf_counter() - began)


def of_adbc(url: str) -> Read:
    """ADBC's Arrow table, as a frame."""
    before, began = peak_memory(), perf_counter()
    with adbc.connect(url) as connection, connection.cursor() as cursor:
        cursor.execute(_STATEMENT)
        frame = pl.DataFrame(cursor.fetch_arrow_table())
    return _done(frame, before, perf_counter() - began)


def of_connectorx(url: str) -> Read:
    """Connectorx's frame."""
    before, began = peak_memory(), perf_counter()
    frame = connectorx.read_sql(_with_host(url), _STATEMENT, return_type="polars")
    return _done(frame, before, perf_counter() - began)


def _with_host(url: str) -> str:
    """The URL with its socket's folder where a host stands: connectorx wants one."""
    parts = urlsplit(url)
    host = parse_qs(parts.query).get("host")
    return url if host is None else f"postgresql://{parts.username}@{quote(host[0], safe='')}{parts.path}"


def of_copy(url: str) -> Read:
    """What psql gives out of a binary COPY, decoded by compiled code."""
    binary_copy.trades(b"", 0)  # compiled, or read from numba's cache
    program = server.program(settings.load().home, "psql") or "psql"
    before, began = peak_memory(), perf_counter()
    copying = [program, url, "-qc", f"COPY ({_STATEMENT}) TO STDOUT (FORMAT BINARY)"]
    data = subprocess.run(copying, capture_output=True, check=True).stdout
    frame = binary_copy.trades(data, ROWS)
    return _done(frame, before, perf_counter() - began)


def _done(frame: pl.DataFrame, before: float, seconds: float) -> Read:
    assert len(frame) == ROWS
    return Read(seconds, peak_memory() - before, frame.estimated_size("mb"))
