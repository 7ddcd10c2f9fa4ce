"""Putting right what can be put right from the tape alone; every function is one instrument's UTC day.

Everything runs inside the caller's transaction.
"""

from collections.abc import Iterable

from market.timeframe import DAY, from_datetime, to_datetime
from storage import ledger, rebuild
from storage.amend import lock_tapes
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


def record_holes(connection: Connection, exchange: str, symbol: str, runs: Iterable[Run]) -> int:
    """Put ids that are missing inside coverage on record, so that they can be healed; how many runs."""
    lock_tapes(connection, exchange, [symbol])
    count = 0
    for run in runs:
        begin, end = min(run.before + 1, run.after), run.after
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
        )
        ledger.recount(connection, exchange, symbol, "trades", begin, end)
        rebuild.rebuild(connection, exchange, symbol, begin, end, "repair")
        count += 1
    return count


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
        rebuild.rebuild(connection, exchange, symbol, min(times), max(times) + 1, "repair")
    return len(rows)
