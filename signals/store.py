"""The tables `signals` and `signal_state`. All within the caller's transaction."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from typing import TYPE_CHECKING, Any

from psycopg import sql
from psycopg.types.json import Jsonb

from market.timeframe import from_datetime, to_datetime
from signals.engine import SignalType
from signals.rows import SignalRow

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from signals.strategies import Strategy
    from signals.target import Target
    from storage.database import Connection


@dataclass(frozen=True, slots=True)
class Key:
    """Whose signals: a strategy in one configuration, on one target."""

    strategy_name: str
    config_hash: str
    target: Target

    @classmethod
    def of(cls, strategy: Strategy, target: Target) -> Key:
        """The key of a strategy's signals on `target`."""
        return cls(strategy.name, strategy.config_hash, target)

    @property
    def values(self) -> tuple[str, ...]:
        """In the order of `_KEY`."""
        target = self.target
        return (
            self.strategy_name,
            self.config_hash,
            target.exchange,
            target.symbol,
            target.timeframe.value,
        )


@dataclass(frozen=True, slots=True)
class State:
    """How far a key has been followed.

    Attributes:
        candle_watermark: open time of the last candle evaluated, microseconds UTC.
        revision_watermark: the last tape revision taken into account.
        last_type: the last defined type, None while there is none.
    """

    candle_watermark: int
    revision_watermark: int
    last_type: SignalType | None


@dataclass(frozen=True, slots=True)
class Written:
    """A row that was added to `signals`."""

    id: int
    key: Key
    revision: int
    is_withdrawn: bool
    row: SignalRow


_KEY = ("strategy_name", "config_hash", "exchange", "symbol", "interval")
_ROW = tuple(field.name for field in fields(SignalRow))
_SAME_KEY = sql.SQL(" AND ").join(sql.SQL("{} = %s").format(sql.Identifier(name)) for name in _KEY)


def lock(connection: Connection, key: Key) -> None:
    """Wait until no other transaction follows `key`, and keep others waiting until this one ends."""
    name = "signals " + " ".join(key.values)
    connection.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", (name,))


def read_state(connection: Connection, key: Key) -> State | None:
    """How far `key` was followed; None before its first defined signal."""
    query = sql.SQL(
        "SELECT candle_watermark, revision_watermark, last_type FROM signal_state WHERE {}"
    ).format(_SAME_KEY)
    row = connection.execute(query, key.values).fetchone()
    return State(from_datetime(row[0]), row[1], SignalType(row[2])) if row else None


def write_state(connection: Connection, key: Key, state: State) -> None:
    """Remember how far `key` was followed, once it has a type to remember."""
    if state.last_type is None:
        connection.execute(sql.SQL("DELETE FROM signal_state WHERE {}").format(_SAME_KEY), key.values)
        return
    connection.execute(
        "INSERT INTO signal_state (strategy_name, config_hash, exchange, symbol, interval,"
        " candle_watermark, revision_watermark, last_type, updated_timestamp)"
        " VALUES (%s, %s, %s, %s, %s, %s, %s, %s, now())"
        " ON CONFLICT (strategy_name, config_hash, exchange, symbol, interval) DO UPDATE SET"
        " (candle_watermark, revision_watermark, last_type, updated_timestamp) = (excluded."
        "candle_watermark, excluded.revision_watermark, excluded.last_type, now())",
        (
            *key.values,
            to_datetime(state.candle_watermark),
            state.revision_watermark,
            state.last_type,
        ),
    )


def newest_revision(connection: Connection, target: Target) -> int:
    """The id of the newest revision of the tape under `target`; 0 where there is none.

    Revisions of one instrument become visible in the order of their ids: it has one writer.
    """
    row = connection.execute(
        "SELECT coalesce(max(id), 0) FROM tape_revisions WHERE exchange = %s AND symbol = %s",
        (target.exchange, target.symbol),
    ).fetchone()
    return int(row[0]) if row else 0


def changed_from(connection: Connection, target: Target, after: int, until: int) -> int | None:
    """Where the tape under `target` changed first, microseconds UTC, by revisions (after, until]."""
    row = connection.execute(
        "SELECT min(from_timestamp) FROM tape_revisions"
        " WHERE exchange = %s AND symbol = %s AND id > %s AND id <= %s",
        (target.exchange, target.symbol, after, until),
    ).fetchone()
    return from_datetime(row[0]) if row and row[0] else None


def reconcile(
    connection: Connection, key: Key, rows: Sequence[SignalRow], start: int, end: int
) -> list[Written]:
    """Make the newest revisions of `key` equal to `rows`, for candles that close in (start, end].

    What is new becomes revision 0, what differs the next revision; what is stored and no longer
    called for is withdrawn by its next revision. What is equal is left alone.

    Args:
        connection: its transaction is the caller's.
        key: whose signals.
        rows: all that today's tape calls for there.
        start: microseconds UTC.
        end: microseconds UTC.

    Returns:
        What was added, in order of time.
    """
    stored = {old.row.timestamp: old for old in _newest(connection, key, start, end)}
    wanted = {row.timestamp: row for row in rows}
    added = [
        Written(0, key, _next_revision(stored.get(time)), is_withdrawn=False, row=row)
        for time, row in wanted.items()
        if time not in stored or stored[time].is_withdrawn or stored[time].row != row
    ]
    added += [
        replace(old, revision=old.revision + 1, is_withdrawn=True)
        for time, old in stored.items()
        if time not in wanted and not old.is_withdrawn
    ]
    added.sort(key=lambda written: written.row.timestamp)
    return _insert(connection, added)


def _newest(connection: Connection, key: Key, start: int, end: int) -> Iterator[Written]:
    query = sql.SQL(
        "SELECT DISTINCT ON (timestamp) id, revision, is_withdrawn, {row} FROM signals"
        " WHERE {same} AND timestamp > %s AND timestamp <= %s ORDER BY timestamp, revision DESC"
    ).format(row=sql.SQL(", ").join(map(sql.Identifier, _ROW)), same=_SAME_KEY)
    cursor = connection.execute(query, (*key.values, to_datetime(start), to_datetime(end)))
    for number, revision, is_withdrawn, timestamp, *values in cursor:
        row = SignalRow(from_datetime(timestamp), *values)
        yield Written(number, key, revision, is_withdrawn, row)


def _next_revision(old: Written | None) -> int:
    return 0 if old is None else old.revision + 1


def _insert(connection: Connection, added: Sequence[Written]) -> list[Written]:
    columns = (*_KEY, "revision", "is_withdrawn", *_ROW)
    query = sql.SQL("INSERT INTO signals ({}) VALUES ({}) RETURNING id").format(
        sql.SQL(", ").join(map(sql.Identifier, columns)),
        sql.SQL(", ").join(sql.Placeholder() * len(columns)),
    )
    rows = [(*w.key.values, w.revision, w.is_withdrawn, *_row_values(w.row)) for w in added]
    with connection.cursor() as cursor:
        # One after the other in a pipeline: ids rise with time, and there is one round trip.
        cursor.executemany(query, rows, returning=True)
        ids = [result.fetchone() for result in cursor.results()] if rows else []
    return [replace(w, id=found[0]) for w, found in zip(added, ids, strict=True) if found]


def _row_values(row: SignalRow) -> Iterator[Any]:
    for name, value in asdict(row).items():
        if name == "timestamp":
            yield to_datetime(value)
        else:
            yield Jsonb(value) if isinstance(value, dict) else value
