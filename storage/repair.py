"""Putting right what can be put right from the tape alone; every function is one instrument's UTC day.

Everything runs inside the caller's transaction.
"""

from collections.abc import Sequence

from psycopg import sql

from market.timeframe import DAY, from_datetime, to_datetime
from storage import ledger, rebuild
from storage.amend import lock_tapes
from storage.coverage import take_back
from storage.database import Connection
from storage.day_checks import Run


def recompute(connection: Connection, exchange: str, symbol: str, day: int) -> None:
    """Rewrite the CVD and the candles of a day, and what depends on them, from its trades and books.

    Args:
        connection: its transaction is the caller's.
        exchange: exchange id.
        symbol: unified symbol.
        day: 00:00 UTC in microseconds.
    """
    lock_tapes(connection, exchange, [symbol])
    ledger.recount(connection, exchange, symbol, "trades", day, day + DAY)
    rebuild.rebuild(connection, exchange, symbol, day, day + DAY, "repair")


def record_holes(connection: Connection, exchange: str, symbol: str, runs: Sequence[Run]) -> int:
    """Put ids that are missing inside coverage on record, so that they can be healed; how many runs."""
    if not runs:
        return 0
    lock_tapes(connection, exchange, [symbol])
    holes = [(min(run.before + 1, run.after), run.after) for run in runs]
    for run, (begin, end) in zip(runs, holes, strict=True):
        # One that was healed, and whose trades are gone again, must not stand in the way.
        connection.execute(
            """
            DELETE FROM stream_gaps
            WHERE exchange = %s AND symbol = %s AND stream = 'trades' AND status = 'healed'
                AND from_timestamp = %s AND to_timestamp = %s AND cause = 'ids_missing' AND from_id = %s
            """,
            (exchange, symbol, to_datetime(begin), to_datetime(end), str(run.first)),
        )
        ledger.add_gap(
            connection,
            exchange,
            symbol,
            "trades",
            begin,
            end,
            cause="ids_missing",
            status="confirmed",
            proof="ids",
            from_id=str(run.first),
            to_id=str(run.last),
            missing_count=run.last - run.first + 1,
            note="found by repair",
            is_taken_back=False,
        )
    take_back(connection, (exchange, symbol, "trades"), holes)
    begin, end = min(begin for begin, _ in holes), max(end for _, end in holes)
    rebuild.rebuild(connection, exchange, symbol, begin, max(end, begin + 1), "repair")
    return len(runs)


def rename(connection: Connection, exchange: str, symbol: str, day: int) -> int:
    """Make number and id of a day's trades agree again, where ids are numbers; how many trades.

    The id is what the exchange said, so the number follows from it. An id that is no number was damaged: it
    follows from the number, and where that one's trade stands beside it, the damaged one goes.
    """
    lock_tapes(connection, exchange, [symbol])
    scope = {"exchange": exchange, "symbol": symbol, "from": to_datetime(day), "to": to_datetime(day + DAY)}
    times = [
        from_datetime(timestamp)
        for statement in (_RENUMBER, _REMOVE_NAMELESS, _NAME)
        for (timestamp,) in connection.execute(statement, scope).fetchall()
    ]
    if times:
        ledger.recount(connection, exchange, symbol, "trades", min(times), max(times) + 1)
        rebuild.rebuild_changed(connection, exchange, symbol, min(times), max(times) + 1, "repair")
    return len(times)


_OF_DAY = sql.SQL("""
    trades.exchange = %(exchange)s AND trades.symbol = %(symbol)s
        AND trades.timestamp >= %(from)s AND trades.timestamp < %(to)s
""")
_IS_NUMBER = sql.SQL("trade_id ~ '^a?(0|[1-9][0-9]{0,17})$'")
_RIGHT_NAME = sql.SQL("CASE WHEN left(trade_id, 1) = 'a' THEN 'a' ELSE '' END || trade_seq")
_RENUMBER = sql.SQL("""
    UPDATE trades SET trade_seq = ltrim(trade_id, 'a')::bigint
    WHERE {} AND {} AND trade_seq <> ltrim(trade_id, 'a')::bigint
    RETURNING timestamp
""").format(_OF_DAY, _IS_NUMBER)
_REMOVE_NAMELESS = sql.SQL("""
    DELETE FROM trades
    WHERE {} AND NOT {} AND EXISTS (
        SELECT FROM trades AS other
        WHERE other.exchange = %(exchange)s AND other.symbol = %(symbol)s
            AND other.timestamp >= %(from)s AND other.timestamp < %(to)s
            AND other.timestamp = trades.timestamp AND other.trade_seq = trades.trade_seq
            AND other.trade_id <> trades.trade_id)
    RETURNING timestamp
""").format(_OF_DAY, sql.SQL("trades.") + _IS_NUMBER)
_NAME = sql.SQL("""
    UPDATE trades SET trade_id = {}
    WHERE {} AND NOT {}
    RETURNING timestamp
""").format(_RIGHT_NAME, _OF_DAY, _IS_NUMBER)


def remove_duplicates(connection: Connection, exchange: str, symbol: str, day: int) -> int:
    """Delete trades of a day whose id an earlier trade has, a day back at most; how many.

    Where the exchange began its ids anew in between, equal ids are different trades.
    """
    lock_tapes(connection, exchange, [symbol])
    rows = connection.execute(
        """
        DELETE FROM trades AS later
        WHERE exchange = %(exchange)s AND symbol = %(symbol)s
            AND timestamp >= %(from)s AND timestamp < %(to)s
            AND EXISTS (
                SELECT FROM trades AS earlier
                WHERE earlier.exchange = %(exchange)s AND earlier.symbol = %(symbol)s
                    AND earlier.trade_id = later.trade_id
                    AND earlier.timestamp >= %(from)s - '1 day'::interval
                    AND earlier.timestamp < later.timestamp
                    AND NOT EXISTS (
                        SELECT FROM stream_gaps AS reset
                        WHERE reset.exchange = %(exchange)s AND reset.symbol = %(symbol)s
                            AND reset.stream = 'trades' AND reset.cause = 'id_reset'
                            AND reset.to_timestamp > earlier.timestamp
                            AND reset.to_timestamp <= later.timestamp))
        RETURNING timestamp
        """,
        {
            "exchange": exchange,
            "symbol": symbol,
            "from": to_datetime(day),
            "to": to_datetime(day + DAY),
        },
    ).fetchall()
    if rows:
        times = [from_datetime(timestamp) for (timestamp,) in rows]
        ledger.recount(connection, exchange, symbol, "trades", min(times), max(times) + 1)
        rebuild.rebuild_changed(connection, exchange, symbol, min(times), max(times) + 1, "repair")
    return len(rows)
