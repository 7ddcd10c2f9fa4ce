"""Recompute what follows from the tape where the tape changed: CVD and candles, in SQL, bit for bit."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

from psycopg import sql

from market.timeframe import DAY, GRACE, from_datetime, to_datetime
from storage.copy import all_or_nothing, names
from storage.database import Connection
from storage.derived import CANDLE_CHANGES, CVD_CHANGES, TRADE_CHANGES
from storage.stored import StoredTape
from storage.tape import CANDLE_KEY, CANDLE_VALUES, CVD_KEY, CVD_VALUES, REPLACE_CANDLE

Cause = Literal["healed", "late_trade", "import", "repair"]


@dataclass(frozen=True)
class Difference:
    """A stored row that is not what its trades, coverage and books give.

    Attributes:
        table: trades, candles or cvd_snapshots.
        timestamp: the row's, in microseconds UTC.
        name: the trade's id, or the candle's interval; empty for a CVD point.
        stored: the columns as stored, None where there is no such row.
        rebuilt: the columns as they must be, None where there must be no such row.
    """

    table: str
    timestamp: int
    name: str
    stored: dict[str, object] | None
    rebuilt: dict[str, object] | None


def rebuild(
    connection: Connection, exchange: str, symbol: str, start_us: int, end_us: int, cause: Cause
) -> int | None:
    """Rewrite everything that depends on the trades, coverage and books of [start_us, end_us).

    That is `cvd_at_trade` and the CVD points up to the end of each of its UTC days, and the candles of those
    days and of the quiet time after them. Only rows that differ are written; if there is one, a row of
    `tape_revisions` says what changed.

    Args:
        connection: its transaction is the caller's: the one that changed the tape.
        exchange: exchange id.
        symbol: unified symbol.
        start_us: where the tape changed, in microseconds UTC.
        end_us: end of it, exclusive.
        cause: why it changed.

    Returns:
        The revision's id; None where every row was right already.
    """
    with recomputing(connection):
        changed = [
            row
            for scope in _scopes(connection, exchange, symbol, start_us, end_us)
            for query in (_WRITE_TRADES, _WRITE_CANDLES, _WRITE_CVD)
            if (row := connection.execute(query, scope).fetchone()) is not None and row[0] is not None
        ]
        if not changed:
            return None
        first = min(start_us, *(from_datetime(row[0]) for row in changed))
        last = max(end_us, *(from_datetime(row[1]) for row in changed))
        return record_revision(connection, exchange, symbol, first, last, cause)


def rebuild_changed(
    connection: Connection, exchange: str, symbol: str, start_us: int, end_us: int, cause: Cause
) -> None:
    """As `rebuild`, where trades, coverage or books were changed: a revision says so in any case."""
    if rebuild(connection, exchange, symbol, start_us, end_us, cause) is None:
        record_revision(connection, exchange, symbol, start_us, end_us, cause)


def record_revision(
    connection: Connection, exchange: str, symbol: str, start_us: int, end_us: int, cause: Cause
) -> int:
    """Say in `tape_revisions` that the tape changed in [start_us, end_us]; the revision's id."""
    row = connection.execute(
        """
        INSERT INTO tape_revisions (exchange, symbol, from_timestamp, to_timestamp, cause)
        VALUES (%s, %s, %s, %s, %s) RETURNING id
        """,
        (exchange, symbol, to_datetime(start_us), to_datetime(end_us), cause),
    ).fetchone()
    assert row is not None  # noqa: S101 - an insert without a condition returns its row
    return int(row[0])


def differences(
    connection: Connection, exchange: str, symbol: str, start_us: int, end_us: int
) -> list[Difference]:
    """The rows that `rebuild` would write or delete; nothing is written."""
    found: list[Difference] = []
    with recomputing(connection):
        for scope in _scopes(connection, exchange, symbol, start_us, end_us):
            for at, trade_id, old, new in connection.execute(_READ_TRADES, scope):
                stored, rebuilt = {"cvd_at_trade": old}, {"cvd_at_trade": new}
                found.append(Difference("trades", from_datetime(at), trade_id, stored, rebuilt))
            for at, interval, *values in connection.execute(_READ_CANDLES, scope):
                sides = _sides(CANDLE_VALUES, values)
                found.append(Difference("candles", from_datetime(at), interval, *sides))
            for at, *values in connection.execute(_READ_CVD, scope):
                found.append(Difference("cvd_snapshots", from_datetime(at), "", *_sides(CVD_VALUES, values)))
    return found


@contextmanager
def recomputing(connection: Connection) -> Iterator[None]:
    """A savepoint in which joins are hashed: rows that were just written have no statistics yet.

    Without them the planner takes a day's rows for a handful, and joins two days of them row by row.
    """
    with all_or_nothing(connection):
        connection.execute("SET LOCAL enable_nestloop = off")
        yield
        connection.execute("SET LOCAL enable_nestloop TO DEFAULT")


def _sides(
    columns: tuple[str, ...], values: list[object]
) -> tuple[dict[str, object] | None, dict[str, object] | None]:
    """(stored, rebuilt) of a row of `changes`: the new side's values come first."""
    new, old = values[: len(columns)], values[len(columns) :]
    return (
        None if old[0] is None else dict(zip(columns, old, strict=True)),
        None if new[0] is None else dict(zip(columns, new, strict=True)),
    )


# What is recomputed


def _scopes(
    connection: Connection, exchange: str, symbol: str, start: int, end: int
) -> Iterator[dict[str, object]]:
    """The parameters of `storage.derived` for a tape that changed in [start, end).

    Days whose trades have left the database stay as they are: what lies between them is a scope of its own.
    """
    tape = StoredTape(connection, exchange, symbol)
    islands = tape.islands()
    first = tape.open_day_before(_first_day(islands, start))
    last = _last_day(tape, islands, end)
    for begin, until in tape.past(first, last).present(first, last):
        changed = max(start, begin)
        yield {
            **parameters(tape, islands, begin, until),
            "exchange": exchange,
            "symbol": symbol,
            "start": to_datetime(changed),
            "start_day": to_datetime(changed - changed % DAY),
        }


def parameters(tape: StoredTape, islands: list[tuple[int, int]], first: int, last: int) -> dict[str, object]:
    """What the days [first, last) of a tape with this coverage are recomputed from."""
    settled = max((max(end - GRACE, begin) for begin, end in islands), default=0)
    newest = tape.last_trade(settled)
    carry = tape.price_before(
        max((begin for begin, end in islands if begin < first < end), default=first), first
    )
    # The point at the end of the last day lies in the day after.
    gone = tape.past(first, last + 1)
    return {
        "from": to_datetime(first),
        "to": to_datetime(last),
        "island_from": [to_datetime(begin) for begin, end in islands if begin <= last and end >= first],
        "island_to": [to_datetime(end) for begin, end in islands if begin <= last and end >= first],
        "settled": to_datetime(settled),
        "closed": to_datetime(max(settled, newest[0].timestamp if newest else 0)),
        "carry_time": to_datetime(carry[0]) if carry else None,
        "carry_price": carry[1] if carry else None,
        "bookless": list(map(to_datetime, gone.books)),
        "pointless": list(map(to_datetime, gone.cvd)),
        "past_intervals": [interval for interval, _ in gone.candles],
        "past_candles": [to_datetime(day) for _, day in gone.candles],
    }


def _first_day(islands: list[tuple[int, int]], start: int) -> int:
    """The first day that depends on the tape from `start` on.

    What waited for the grace becomes due with it, also at the end of the coverage before a newest one.
    """
    waiting = start - GRACE
    if len(islands) > 1 and islands[-1][0] >= start:
        waiting = min(waiting, islands[-2][1] - GRACE)
    return waiting - waiting % DAY


def _last_day(tape: StoredTape, islands: list[tuple[int, int]], end: int) -> int:
    """The end of the last day that depends on the tape before `end`.

    Quiet minutes take their price from the last trade before them, into the days after it.
    """
    last = _day_end(end - 1)
    reach = max((to for begin, to in islands if begin < last < to), default=last)
    if reach == last or tape.first_trade_time(end, last) is not None:
        return last
    next_trade = tape.first_trade_time(last, reach)
    return _day_end(reach - 1 if next_trade is None else next_trade)


def _day_end(moment: int) -> int:
    return moment - moment % DAY + DAY


# The statements: the same recomputation, shown or written


def _both(columns: tuple[str, ...]) -> list[str]:
    return [f"{side}_{column}" for side in ("new", "old") for column in columns]


_READ_TRADES = sql.SQL("""
    WITH {} SELECT timestamp, trade_id, old_cvd_at_trade, new_cvd_at_trade FROM changes ORDER BY 1, 2
""").format(TRADE_CHANGES)
_READ_CANDLES = sql.SQL("WITH {} SELECT {} FROM changes ORDER BY 1, 2").format(
    CANDLE_CHANGES, names(("timestamp", "interval", *_both(CANDLE_VALUES)))
)
_READ_CVD = sql.SQL("WITH {} SELECT {} FROM changes ORDER BY 1").format(
    CVD_CHANGES, names(("timestamp", *_both(CVD_VALUES)))
)

_WRITE_TRADES = sql.SQL("""
    WITH {}, written AS (
        UPDATE trades SET cvd_at_trade = new_cvd_at_trade
        FROM changes
        WHERE exchange = %(exchange)s AND symbol = %(symbol)s
            AND trades.timestamp >= %(start)s AND trades.timestamp < %(to)s
            AND trades.timestamp = changes.timestamp AND trades.trade_id = changes.trade_id
    )
    SELECT min(timestamp), max(timestamp) FROM changes
""").format(TRADE_CHANGES)
_WRITE_CANDLES = sql.SQL("""
    WITH {changes}, deleted AS (
        DELETE FROM candles USING changes
        WHERE exchange = %(exchange)s AND symbol = %(symbol)s
            AND candles.timestamp >= %(from)s AND candles.timestamp < %(to)s
            AND candles.interval = changes.interval AND candles.timestamp = changes.timestamp
            AND new_source IS NULL
    ), written AS (
        INSERT INTO candles AS stored ({columns})
        SELECT %(exchange)s, %(symbol)s, interval, timestamp, {new} FROM changes WHERE new_source IS NOT NULL
        {replace}
    )
    SELECT min(timestamp), max(timestamp) + '1 minute'::interval FROM changes WHERE interval = '1m'
""").format(
    changes=CANDLE_CHANGES,
    columns=names(CANDLE_KEY + CANDLE_VALUES),
    new=names(f"new_{column}" for column in CANDLE_VALUES),
    replace=REPLACE_CANDLE,
)
_WRITE_CVD = sql.SQL("""
    WITH {changes}, deleted AS (
        DELETE FROM cvd_snapshots USING changes
        WHERE exchange = %(exchange)s AND symbol = %(symbol)s
            AND cvd_snapshots.timestamp > %(from)s AND cvd_snapshots.timestamp <= %(to)s
            AND cvd_snapshots.timestamp = changes.timestamp AND new_cvd IS NULL
    ), written AS (
        INSERT INTO cvd_snapshots ({columns})
        SELECT %(exchange)s, %(symbol)s, timestamp, {new} FROM changes WHERE new_cvd IS NOT NULL
        ON CONFLICT ({key}) DO UPDATE SET ({values}) = ROW ({excluded})
    )
    SELECT min(timestamp), max(timestamp) FROM changes
""").format(
    changes=CVD_CHANGES,
    columns=names(CVD_KEY + CVD_VALUES),
    new=names(f"new_{column}" for column in CVD_VALUES),
    key=names(CVD_KEY),
    values=names(CVD_VALUES),
    excluded=names(CVD_VALUES, "excluded"),
)
