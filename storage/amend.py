"""Changing a tape beside whoever else writes it: under the instrument's lock, with a revision that says so.

A live writer builds candles and CVD in memory, on the rows as it knows them. Whoever else adds trades or
coverage (healing, backfill, import, replay, a spool found later) does it in a transaction that holds the
instrument's tape lock and leaves a row in `tape_revisions`. The live writer takes the same lock for each of
its writes, sees the revision, merges that write in and goes on from the rows.

Everything runs inside the caller's transaction.
"""

from collections.abc import Collection, Mapping, Sequence

from psycopg import sql

from market import Trade, WrongUse
from market.timeframe import DAY, to_datetime
from storage import ledger, rebuild, tape
from storage.coverage import Span, add_coverage, recount
from storage.database import Connection
from storage.stored import StoredTape
from storage.tape import Received

__all__ = ["DayIsPast", "amend", "last_revision", "lock_tapes", "revised_since"]


class DayIsPast(WrongUse):
    """The day's trades have left the database: none can be added to it."""


def lock_tapes(
    connection: Connection, exchange: str, symbols: Collection[str], *, is_shared: bool = False
) -> None:
    """Hold these instruments' tapes until the transaction ends; nobody else changes them meanwhile.

    `is_shared`: neither does this transaction, so that others may hold them in the same way.
    """
    # In one order everywhere, so that two who want several never wait for each other.
    keys = [f"tape:{exchange}:{symbol}" for symbol in sorted(symbols)]
    lock = "pg_advisory_xact_lock_shared" if is_shared else "pg_advisory_xact_lock"
    query = sql.SQL("SELECT {}(hashtextextended(key, 0)) FROM unnest(%s::text[]) AS key")
    connection.execute(query.format(sql.Identifier(lock)), [keys])


def amend(
    connection: Connection,
    exchange: str,
    symbol: str,
    trades: Sequence[Trade],
    received: Received,
    spans: Sequence[Span],
    cause: rebuild.Cause,
) -> int:
    """Merge trades and coverage into an instrument's tape, and rebuild all that depends on what is new.

    A hole on record whose ids are all there then is closed: deleted if its trades were only late, healed
    otherwise.

    Args:
        connection: its transaction is the caller's.
        exchange: exchange id.
        symbol: unified symbol; every trade is of it.
        trades: in any order; those that the tape holds already are left out.
        received: when each came, in microseconds UTC; None where that is not known.
        spans: what is whole with these trades; `row_count` is counted anew.
        cause: why the tape changes.

    Returns:
        How many of the trades were new.

    Raises:
        WrongUse: aggregates would mix with single trades; or the day of a trade that is not just late has
            left the database, and it lies in no coverage there.
    """
    lock_tapes(connection, exchange, [symbol])
    trades, received = _present(connection, exchange, symbol, trades, received, cause)
    inserted = tape.merge_trades(connection, exchange, trades, received)
    times = [trade.timestamp for trade in inserted]
    for span in spans:
        if add_coverage(
            connection,
            exchange,
            symbol,
            "trades",
            span.from_timestamp,
            span.to_timestamp,
            span.from_id,
            span.to_id,
            span.proof,
            span.origin,
            0,
        ):
            times += (span.from_timestamp, span.to_timestamp)
    if inserted:
        times += ledger.close_filled(
            connection, exchange, symbol, min(times), max(times), is_healed=cause != "late_trade"
        )
    if times:
        begin, end = min(times), max(times) + 1
        recount(connection, exchange, symbol, "trades", begin, end)
        rebuild.rebuild_changed(connection, exchange, symbol, begin, end, cause)
    return len(inserted)


def _present(
    connection: Connection,
    exchange: str,
    symbol: str,
    trades: Sequence[Trade],
    received: Received,
    cause: rebuild.Cause,
) -> tuple[Sequence[Trade], Received]:
    """Those of days that are in the database; of the others coverage says that the tape has them.

    A stream that begins may show trades of long ago, which is no reason to end a collector.
    """
    times = [trade.timestamp for trade in trades]
    stored = StoredTape(connection, exchange, symbol)
    gone = stored.past(min(times), max(times) + 1).trades if times else {}
    kept = [number for number, time in enumerate(times) if time - time % DAY not in gone]
    if len(kept) == len(times):
        return trades, received
    islands = stored.islands()
    for time in times:
        day = time - time % DAY
        is_new = cause != "late_trade" and not any(begin <= time < end for begin, end in islands)
        if day in gone and is_new:
            raise DayIsPast(_refusal(exchange, symbol, day, is_moved=gone[day]))
    return [trades[at] for at in kept], received and [received[at] for at in kept]


def _refusal(exchange: str, symbol: str, day: int, *, is_moved: bool) -> str:
    date = f"{to_datetime(day):%Y-%m-%d}"
    if is_moved:
        return (
            f"{exchange} {symbol} {date} was moved to the tier; to add trades to it, bring it back first:"
            f" deltatape db tier --restore {date} --exchange {exchange} --symbol {symbol}"
        )
    return f"{exchange} {symbol} {date} was dropped, as [[retain]] says: no trades are added to that day"


def last_revision(connection: Connection) -> int:
    """The id of the newest revision of any tape; 0 before the first."""
    row = connection.execute("SELECT coalesce(max(id), 0) FROM tape_revisions").fetchone()
    return 0 if row is None else int(row[0])


def revised_since(connection: Connection, exchange: str, known: Mapping[str, int]) -> set[str]:
    """The symbols of which a later revision than the known one is on record; call it under their lock."""
    if not known:
        return set()
    rows = connection.execute(
        """
        SELECT DISTINCT symbol
        FROM unnest(%(symbols)s::text[], %(known)s::bigint[]) AS given (symbol, known)
        JOIN tape_revisions AS revision USING (symbol)
        WHERE exchange = %(exchange)s AND revision.id > %(least)s AND revision.id > given.known
        """,
        {
            "exchange": exchange,
            "symbols": list(known),
            "known": list(known.values()),
            "least": min(known.values()),
        },
    )
    return {symbol for (symbol,) in rows}
