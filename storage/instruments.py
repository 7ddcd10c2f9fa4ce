"""What is traded: the current row of each instrument, and what changed when."""

from collections.abc import Iterable
from decimal import Decimal

from psycopg import sql

from market import Instrument
from storage.copy import all_or_nothing, names, stage_rows
from storage.database import Connection

_KEY = ("exchange", "symbol")
_VALUES = (
    "exchange_symbol",
    "market_type",
    "base",
    "quote",
    "expiry_timestamp",
    "tick_size",
    "lot_size",
    "contract_size",
    "min_notional",
    "is_active",
    "trade_ids_consecutive",
)
# What an instrument's past must be read by: an order that was legal then may not be so now.
_WATCHED = ("tick_size", "lot_size", "contract_size", "is_active")


def write_instruments(connection: Connection, instruments: Iterable[Instrument]) -> int:
    """Write what the exchanges say of their instruments; a change of tick, lot, contract or status is kept.

    Returns:
        How many rows were written or changed.
    """
    rows = [_row(each) for each in {(each.exchange, each.symbol): each for each in instruments}.values()]
    if not rows:
        return 0
    with all_or_nothing(connection):
        staged = stage_rows(connection, "instruments", _KEY + _VALUES, rows)
        for column in _WATCHED:
            _keep_changes(connection, staged, column)
        query = sql.SQL("""
            INSERT INTO instruments AS stored ({columns}) SELECT {columns} FROM {staged}
            ON CONFLICT ({key}) DO UPDATE SET ({values}) = ROW ({new}), updated_timestamp = now()
            WHERE ({old}) IS DISTINCT FROM ({new})
        """).format(
            columns=names(_KEY + _VALUES),
            staged=staged,
            key=names(_KEY),
            values=names(_VALUES),
            new=names(_VALUES, "excluded"),
            old=names(_VALUES, "stored"),
        )
        return connection.execute(query).rowcount


def _keep_changes(connection: Connection, staged: sql.Identifier, column: str) -> None:
    connection.execute(
        sql.SQL("""
            INSERT INTO instrument_changes (timestamp, exchange, symbol, field, old_value, new_value)
            SELECT now(), exchange, symbol, {field}, stored.{column}::text, staged.{column}::text
            FROM {staged} AS staged JOIN instruments AS stored USING (exchange, symbol)
            WHERE stored.{column} IS DISTINCT FROM staged.{column}
        """).format(field=sql.Literal(column), column=sql.Identifier(column), staged=staged)
    )


def _row(instrument: Instrument) -> tuple[object, ...]:
    return (
        instrument.exchange,
        instrument.symbol,
        instrument.exchange_symbol,
        instrument.market_type,
        instrument.base,
        instrument.quote,
        instrument.expiry_timestamp,
        _decimal(instrument.tick_size),
        _decimal(instrument.lot_size),
        _decimal(instrument.contract_size),
        _decimal(instrument.min_notional),
        instrument.is_active,
        instrument.trade_ids_consecutive,
    )


def _decimal(text: str | None) -> Decimal | None:
    return None if text is None else Decimal(text)
