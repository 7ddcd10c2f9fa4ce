"""What is traded: the current row of each instrument, and what changed when."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
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
_OPTIONAL = ("expiry_timestamp", "tick_size", "lot_size", "contract_size", "min_notional")
# What an instrument's past must be read by: an order that was legal then may not be so now.
_WATCHED = ("tick_size", "lot_size", "contract_size", "is_active")

_LISTED = '{"source": "list"}'
"""The metadata of what an exchange's list has shown; what a message alone has named has none."""


def write_instruments(connection: Connection, instruments: Iterable[Instrument]) -> int:
    """Write what the exchanges' lists say; a change of tick, lot, contract size or status is kept.

    Returns:
        How many rows were written or changed.
    """
    rows = _rows(instruments)
    if not rows:
        return 0
    with all_or_nothing(connection):
        staged = stage_rows(connection, "instruments", _KEY + _VALUES, rows)
        for column in _WATCHED:
            _keep_changes(connection, staged, column)
        return _upsert(connection, staged, _VALUES, names(_VALUES, "excluded"))


def note_instruments(connection: Connection, instruments: Iterable[Instrument]) -> int:
    """Write instruments that are not known yet; of a known one only what nobody has said so far.

    What a message, a file or a name tells of an instrument never replaces what its exchange's list said.

    Returns:
        How many rows were written or filled in.
    """
    rows = _rows(instruments)
    if not rows:
        return 0
    known_first = sql.SQL(", ").join(
        sql.SQL("coalesce(stored.{0}, excluded.{0})").format(sql.Identifier(column)) for column in _OPTIONAL
    )
    with all_or_nothing(connection):
        staged = stage_rows(connection, "instruments", _KEY + _VALUES, rows)
        return _upsert(connection, staged, _OPTIONAL, known_first)


def _rows(instruments: Iterable[Instrument]) -> list[tuple[object, ...]]:
    """Each instrument once."""
    return [_row(each) for each in {(each.exchange, each.symbol): each for each in instruments}.values()]


def _upsert(
    connection: Connection, staged: sql.Composable, values: Sequence[str], new: sql.Composable
) -> int:
    """Insert what is staged; of rows that are there set `values` to `new`. How many rows were written."""
    query = sql.SQL("""
        INSERT INTO instruments AS stored ({columns}) SELECT {columns} FROM {staged}
        ON CONFLICT ({key}) DO UPDATE SET ({values}) = ROW ({new}), updated_timestamp = now()
        WHERE ({old}) IS DISTINCT FROM ({new})
    """).format(
        columns=names(_KEY + _VALUES),
        staged=staged,
        key=names(_KEY),
        values=names(values),
        new=new,
        old=names(values, "stored"),
    )
    return connection.execute(query).rowcount


@dataclass(frozen=True)
class Changes:
    """What an exchange's new list of instruments changed, as symbols in alphabetical order.

    Attributes:
        listed: new, or active again.
        delisted: gone from the list, or no longer active in it.
        changed: of another tick, lot or contract size than before.
    """

    listed: list[str]
    delisted: list[str]
    changed: list[str]


def refresh_instruments(connection: Connection, exchange: str, instruments: Sequence[Instrument]) -> Changes:
    """Write the whole list of an exchange's instruments, and note in `instrument_changes` what is different.

    A new one is noted with field `listed`, unless this is the first list ever of the exchange; one that is
    gone or inactive gets `is_active` false and a `delisted_timestamp`, and loses both when it comes back.

    Args:
        connection: its transaction is the caller's.
        exchange: exchange id.
        instruments: all of the exchange's; an empty list says nothing and changes nothing.
    """
    if not instruments:
        return Changes([], [], [])
    active = {each.symbol: each.is_active for each in instruments}
    with all_or_nothing(connection):
        known, is_first = _known(connection, exchange)
        write_instruments(connection, instruments)
        gone = sorted(symbol for symbol, was_active in known.items() if was_active and symbol not in active)
        new = sorted(active.keys() - known.keys())
        stopped = sorted(symbol for symbol, now in active.items() if not now and known.get(symbol))
        back = sorted(symbol for symbol, now in active.items() if now and known.get(symbol) is False)
        _note(connection, exchange, gone, "is_active", "true", "false")
        if not is_first:
            _note(connection, exchange, new, "listed", None, "true")
        connection.execute(
            """
            UPDATE instruments SET
                is_active = is_active AND symbol <> ALL (%(gone)s),
                delisted_timestamp = CASE WHEN symbol = ANY (%(back)s) THEN NULL
                    WHEN symbol = ANY (%(gone)s) OR symbol = ANY (%(stopped)s) THEN now()
                    ELSE delisted_timestamp END,
                listed_timestamp = CASE WHEN symbol = ANY (%(new)s) THEN now() ELSE listed_timestamp END,
                metadata = CASE WHEN symbol = ANY (%(gone)s) THEN metadata
                    ELSE metadata || %(listed)s::jsonb END,
                updated_timestamp = now()
            WHERE exchange = %(exchange)s AND (
                symbol = ANY (%(gone)s) OR symbol = ANY (%(stopped)s) OR symbol = ANY (%(back)s)
                OR symbol = ANY (%(active)s) AND NOT metadata @> %(listed)s::jsonb)
            """,
            {
                "exchange": exchange,
                "gone": gone,
                "stopped": stopped,
                "back": back,
                "new": [] if is_first else new,
                "active": list(active),
                "listed": _LISTED,
            },
        )
        changed = connection.execute(
            """
            SELECT DISTINCT symbol FROM instrument_changes
            WHERE exchange = %s AND timestamp = now() AND field IN ('tick_size', 'lot_size', 'contract_size')
            ORDER BY symbol
            """,
            [exchange],
        ).fetchall()
    listed = [] if is_first else sorted([*new, *back])
    return Changes(listed, sorted([*gone, *stopped]), [symbol for (symbol,) in changed])


def _known(connection: Connection, exchange: str) -> tuple[dict[str, bool], bool]:
    """Whether each known instrument is active, and whether none of them is known from a list yet."""
    rows = connection.execute(
        "SELECT symbol, is_active, metadata @> %s::jsonb FROM instruments WHERE exchange = %s",
        (_LISTED, exchange),
    ).fetchall()
    return {symbol: is_active for symbol, is_active, _ in rows}, not any(listed for _, _, listed in rows)


def _note(
    connection: Connection, exchange: str, symbols: list[str], field: str, old: str | None, new: str
) -> None:
    connection.execute(
        """
        INSERT INTO instrument_changes (timestamp, exchange, symbol, field, old_value, new_value)
        SELECT now(), %s, symbol, %s, %s, %s FROM unnest(%s::text[]) AS symbol
        """,
        (exchange, field, old, new, symbols),
    )


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
