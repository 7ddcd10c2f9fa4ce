"""Reads tables into polars frames, through Arrow (ADBC).

Every frame has its table's columns, ascending in tape order, with times as Datetime("us", "UTC").
What polars has no exact type for is converted: numeric becomes Float64, jsonb and uuid text. An
instrument that is not there gives an empty frame of the same columns and types.

A span is half-open: start <= timestamp < end, each as microseconds UTC, ISO 8601 text, or a date or
datetime (UTC unless it names a zone). `limit` keeps the newest rows of the span. Every function raises
WrongUse for a time, limit or name that cannot be meant, and Unavailable where the database does not
answer or has no tables yet.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from operator import index
from typing import Any
from uuid import UUID

import adbc_driver_manager
import adbc_driver_postgresql.dbapi as adbc
import polars as pl
import pyarrow as pa
from psycopg.conninfo import make_conninfo
from sqlalchemy import (
    Column,
    ColumnElement,
    Double,
    Numeric,
    Select,
    Table,
    Text,
    Uuid,
    cast,
    exists,
    func,
    select,
)
from sqlalchemy.dialects import postgresql
from sqlalchemy.dialects.postgresql import JSONB

from market import Timeframe, parse_time
from market.errors import Unavailable, WrongUse
from market.timeframe import to_datetime
from storage import tables
from storage.database import describe
from storage.past import PastTable
from storage.resample import Buckets, resample
from storage.tier_files import read_across

__all__ = [
    "Moment",
    "books",
    "candles",
    "coverage",
    "cvd",
    "equity",
    "funding",
    "indicators",
    "microseconds",
    "runs",
    "signals",
    "trades",
]

Moment = int | str | date | None

_CONNECT_SECONDS = 10
_UNDEFINED_TABLE = "42P01"
_PIECE = 500_000
_FEW = 8
"""Batches, of 16 MB each, that are joined to one piece of memory."""


def trades(
    url: str,
    exchange: str,
    symbol: str,
    start: Moment = None,
    end: Moment = None,
    limit: int | None = None,
) -> pl.DataFrame:
    """The trades of an instrument in tape order: by time, then by trade_seq."""
    return _tape(url, "trades", exchange, symbol, start, end, limit)


def candles(
    url: str,
    exchange: str,
    symbol: str,
    timeframe: str,
    start: Moment = None,
    end: Moment = None,
    limit: int | None = None,
    *,
    closed_only: bool = True,
) -> pl.DataFrame:
    """The candles of an instrument by open time; the one still open only on request.

    Timeframes that are not stored (3m, 2h, 1w, …) are made of those that are, see `storage.resample`.
    """
    buckets = Buckets.parse(timeframe)
    where = {"exchange": exchange, "symbol": symbol, "interval": buckets.base}
    if buckets.parts > 1:
        frame = _resampled(url, where, buckets, start, end, limit)
        frame = frame.filter("is_closed") if closed_only else frame
        return frame if limit is None else frame.tail(limit)
    conditions = _span(tables.candles.c.timestamp, start, end)
    if closed_only:
        conditions.append(tables.candles.c.is_closed)
    return _read(url, _Query(tables.candles, where, conditions, ("timestamp",), limit))


def _resampled(
    url: str, where: Mapping[str, str], buckets: Buckets, start: Moment, end: Moment, limit: int | None
) -> pl.DataFrame:
    """The candles of `buckets` that open in the span; with a limit, of its end, one more at least."""
    _check_limit(limit)
    since = None if start is None else buckets.first_at(microseconds(start))
    until = None if end is None else buckets.first_at(microseconds(end))
    # One more than asked for, since the first may be cut, and another, since the last may be open.
    rows = None if limit is None else (limit + 2) * buckets.parts
    column = tables.candles.c.timestamp
    base = _read(url, _Query(tables.candles, where, _span(column, since, until), ("timestamp",), rows))
    newest = _read(url, _Query(tables.candles, where, (), ("timestamp",), 1))["timestamp"].to_physical()
    frame = resample(base, buckets, newest.item() if len(newest) else 0)
    return frame.slice(1) if len(base) == rows else frame


def cvd(
    url: str,
    exchange: str,
    symbol: str,
    start: Moment = None,
    end: Moment = None,
    limit: int | None = None,
) -> pl.DataFrame:
    """The CVD snapshots of an instrument."""
    return _tape(url, "cvd_snapshots", exchange, symbol, start, end, limit)


def books(
    url: str,
    exchange: str,
    symbol: str,
    start: Moment = None,
    end: Moment = None,
    limit: int | None = None,
) -> pl.DataFrame:
    """The order book snapshots of an instrument; the levels as JSON text, best first."""
    return _tape(url, "orderbook_snapshots", exchange, symbol, start, end, limit)


def funding(
    url: str,
    exchange: str,
    symbol: str,
    start: Moment = None,
    end: Moment = None,
    limit: int | None = None,
) -> pl.DataFrame:
    """The funding rates of a contract, by the time of payment."""
    where = {"exchange": exchange, "symbol": symbol}
    span = _span(tables.funding_rates.c.timestamp, start, end)
    return _read(url, _Query(tables.funding_rates, where, span, ("timestamp",), limit))


def _tape(
    url: str, table: PastTable, exchange: str, symbol: str, start: Moment, end: Moment, limit: int | None
) -> pl.DataFrame:
    """Rows of an instrument, whether a day lies in the database or was moved to the tier."""
    _check_limit(limit)
    since, until = (None if each is None else microseconds(each) for each in (start, end))

    def read(begin: int | None, stop: int | None, rows: int | None) -> pl.DataFrame:
        return stored(url, table, exchange, symbol, begin, stop, rows)

    return read_across(url, table, exchange, symbol, since, until, limit, read)


def stored(
    url: str,
    table: PastTable,
    exchange: str,
    symbol: str,
    begin: int | None,
    end: int | None,
    limit: int | None = None,
) -> pl.DataFrame:
    """What the database itself holds of an instrument's [begin, end), microseconds UTC, in tape order."""
    where = {"exchange": exchange, "symbol": symbol}
    source = tables.metadata.tables[table]
    span = _span(source.c.timestamp, begin, end)
    if table != "trades" or limit is not None:
        order = ("timestamp", "trade_seq") if table == "trades" else ("timestamp",)
        return _read(url, _Query(source, where, span, order, limit))
    # The index gives the order of time. The rest, which costs the server a tenth of all, is nearly always
    # so already: ids that are texts are in the order of their numbers while those have equally many digits.
    return _in_tape_order(_read(url, _Query(source, where, span, ("timestamp",), None)))


def _in_tape_order(trades: pl.DataFrame) -> pl.DataFrame:
    """Trades that are in the order of time, those of one time in the order of trade_seq as well."""
    for begin in range(0, len(trades), _PIECE):
        piece = trades.select("timestamp", "trade_seq").slice(begin, _PIECE + 1)
        is_same = piece["timestamp"].to_physical().diff() == 0
        if (is_same & (piece["trade_seq"].diff() < 0)).any():
            return trades.sort("timestamp", "trade_seq", maintain_order=True)
    return trades


def indicators(
    url: str,
    exchange: str,
    symbol: str,
    timeframe: str,
    name: str | None = None,
    start: Moment = None,
    end: Moment = None,
    limit: int | None = None,
) -> pl.DataFrame:
    """The kept values of an instrument's indicators, or of one of them, by candle and name."""
    where = {"exchange": exchange, "symbol": symbol, "interval": Timeframe.parse(timeframe)}
    span = _span(tables.indicators.c.timestamp, start, end)
    order = ("timestamp", "name")
    return _read(url, _Query(tables.indicators, where | _given(name=name), span, order, limit))


def signals(
    url: str,
    exchange: str | None = None,
    symbol: str | None = None,
    timeframe: str | None = None,
    strategy: str | None = None,
    start: Moment = None,
    end: Moment = None,
    limit: int | None = None,
    *,
    every_revision: bool = False,
) -> pl.DataFrame:
    """Signals by close time: what today's tape says, or every revision of it on request."""
    where = _given(
        exchange=exchange,
        symbol=symbol,
        interval=Timeframe.parse(timeframe) if timeframe is not None else None,
        strategy_name=strategy,
    )
    conditions = _span(tables.signals.c.timestamp, start, end)
    if not every_revision:
        conditions += [~tables.signals.c.is_withdrawn, _is_newest_revision()]
    return _read(url, _Query(tables.signals, where, conditions, ("timestamp", "id"), limit))


def runs(
    url: str,
    strategy: str | None = None,
    status: str | None = None,
    sweep_id: str | UUID | None = None,
    start: Moment = None,
    end: Moment = None,
    limit: int | None = None,
) -> pl.DataFrame:
    """Backtest runs by the time they ran, which is also what `start` and `end` mean here."""
    sweep = str(_uuid(sweep_id)) if sweep_id is not None else None
    where = _given(strategy_name=strategy, status=status, sweep_id=sweep)
    span = _span(tables.backtest_runs.c.run_timestamp, start, end)
    order = ("run_timestamp", "backtest_id")
    return _read(url, _Query(tables.backtest_runs, where, span, order, limit))


def equity(url: str, backtest_id: str | UUID) -> pl.DataFrame:
    """The equity curve of one run; empty for a run that has none stored."""
    where = {"backtest_id": str(_uuid(backtest_id))}
    return _read(url, _Query(tables.backtest_equity_curve, where, (), ("timestamp",)))


def coverage(
    url: str,
    exchange: str | None = None,
    symbol: str | None = None,
    stream: str | None = None,
    start: Moment = None,
    end: Moment = None,
    limit: int | None = None,
) -> pl.DataFrame:
    """The spans that are proven whole, stream by stream; with a time, those that reach into the span."""
    where = _given(exchange=exchange, symbol=symbol, stream=stream)
    table = tables.stream_coverage
    reaching = [] if start is None else [table.c.to_timestamp > _datetime(start)]
    reaching += [] if end is None else [table.c.from_timestamp < _datetime(end)]
    order = ("exchange", "symbol", "stream", "from_timestamp")
    return _read(url, _Query(table, where, reaching, order, limit))


def _is_newest_revision() -> ColumnElement[bool]:
    newer = tables.signals.alias("newer")
    key = ("strategy_name", "config_hash", "exchange", "symbol", "interval", "timestamp")
    same = [newer.c[name] == tables.signals.c[name] for name in key]
    return ~exists().where(*same, newer.c.revision > tables.signals.c.revision)


@dataclass(frozen=True)
class _Query:
    """A read of one table.

    Attributes:
        table: what is read.
        where: column → the text it must equal; bound, since it comes from people.
        conditions: further conditions, of our own making.
        order: columns, ascending.
        limit: how many rows of the end are kept.
    """

    table: Table
    where: Mapping[str, str]
    conditions: Sequence[ColumnElement[bool]]
    order: Sequence[str]
    limit: int | None = None

    def sql(self) -> str:
        """The statement; it looks up each bound text in the session's settings."""
        rows = select(*map(_readable, self.table.c)).where(*self._equal(), *self.conditions)
        order = [self.table.c[name] for name in self.order]
        if self.limit is None:
            return _text(rows.order_by(*order))
        _check_limit(self.limit)
        newest = rows.order_by(*(column.desc() for column in order)).limit(self.limit).subquery()
        return _text(select(newest).order_by(*(newest.c[name] for name in self.order)))

    def _equal(self) -> Iterator[ColumnElement[bool]]:
        for name in self.where:
            column = self.table.c[name]
            yield column == cast(func.current_setting(_setting(name)), column.type)


def _check_limit(limit: int | None) -> None:
    if limit is not None and limit < 1:
        raise WrongUse(f"limit must be 1 or more, not {limit}")


def _text(statement: Select[Any]) -> str:
    dialect = postgresql.dialect(paramstyle="named")  # type: ignore[no-untyped-call]
    return str(statement.compile(dialect=dialect, compile_kwargs={"literal_binds": True}))


def _read(url: str, query: _Query) -> pl.DataFrame:
    """Run `query` and fetch its rows.

    ADBC streams rows by COPY, which takes no parameters; with parameters it holds the whole answer
    in memory a second time, at 2.5 times the peak. So the texts are bound into settings of the
    session, which the statement then reads.
    """
    statement = query.sql()
    target = describe(url)
    info = make_conninfo(url, connect_timeout=_CONNECT_SECONDS, application_name="deltatape read")
    try:
        with adbc.connect(info) as connection, connection.cursor() as cursor:
            for name, value in query.where.items():
                cursor.execute("SELECT set_config($1, $2, false)", (_setting(name), value))
                cursor.fetchall()
            cursor.execute(statement)
            return _frame(cursor)
    except adbc_driver_manager.Error as error:
        raise _unavailable(target, error) from error


def _frame(cursor: adbc.Cursor) -> pl.DataFrame:
    """The answer batch by batch: as one Arrow table it would lie in memory twice."""
    reader = cursor.fetch_record_batch()
    parts = [_compact(batch) for batch in reader]
    return pl.concat(parts, rechunk=len(parts) < _FEW) if parts else pl.DataFrame(reader.schema.empty_table())


def _compact(batch: pa.RecordBatch) -> pl.DataFrame:
    """A copy in buffers of the right size: ADBC leaves room in its own, and each text lies in them twice."""
    return pl.DataFrame(batch).select(pl.all().gather(pl.int_range(pl.len())))


def _unavailable(target: str, error: adbc_driver_manager.Error) -> Unavailable:
    if error.sqlstate == _UNDEFINED_TABLE:
        return Unavailable(f"{target} has no Deltatape tables yet; run: deltatape db upgrade")
    first = str(error).strip().splitlines()[0]
    return Unavailable(f"cannot read from {target}: {first.removeprefix('IO: [libpq] ')}")


def _readable(column: Column[Any]) -> ColumnElement[Any]:
    """The column as a type that Arrow and polars both know."""
    if isinstance(column.type, Double):
        return column
    if isinstance(column.type, Numeric):
        return cast(column, Double).label(column.name)
    if isinstance(column.type, JSONB | Uuid):
        return cast(column, Text).label(column.name)
    return column


def _setting(name: str) -> str:
    return f"deltatape.{name}"


def _given(**where: str | None) -> dict[str, str]:
    return {name: value for name, value in where.items() if value is not None}


def _span(column: Column[Any], start: Moment, end: Moment) -> list[ColumnElement[bool]]:
    """The conditions of start <= column < end."""
    after = [] if start is None else [column >= _datetime(start)]
    return after if end is None else [*after, column < _datetime(end)]


def _datetime(moment: int | str | date) -> datetime:
    return to_datetime(microseconds(moment))


def microseconds(moment: int | str | date) -> int:
    """A time, however it is written, as microseconds UTC.

    Raises:
        WrongUse: a text that is no time.
    """
    text = moment.isoformat() if isinstance(moment, date) else moment
    # numpy's integers too.
    return parse_time(text) if isinstance(text, str) else index(text)


def _uuid(value: str | UUID) -> UUID:
    try:
        return value if isinstance(value, UUID) else UUID(value)
    except ValueError:
        raise WrongUse(f"not the id of a run: {value!r}") from None
