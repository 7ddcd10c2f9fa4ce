"""The tables `signals` and `signal_state`. All within the caller's transaction."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

from psycopg import sql
from psycopg.types.json import Jsonb

from market.timeframe import from_datetime, to_datetime
from signals.engine import SignalType
from signals.rows import SignalRow
from signals.target import columns

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

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
        settled_watermark: open time of the last one of which outcomes and indicators are kept, too.
        revision_watermark: the last tape revision taken into account.
        last_type: the last defined type, None while there is none.
    """

    candle_watermark: int
    settled_watermark: int
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


@dataclass(frozen=True, slots=True)
class Span:
    """The candles of a key that open in [start, end), microseconds UTC; signals come at (start, end]."""

    key: Key
    start: int
    end: int


_KEY = ("strategy_name", "config_hash", "exchange", "symbol", "interval")
_ROW = tuple(field.name for field in fields(SignalRow))
_COLUMNS = sql.SQL(", ").join(map(sql.Identifier, _KEY))


def _same(one: str, other: str) -> sql.Composed:
    """The condition that rows of two tables have the same key."""
    return sql.SQL(" AND ").join(
        sql.SQL("{} = {}").format(sql.Identifier(one, name), sql.Identifier(other, name)) for name in _KEY
    )


def lock(connection: Connection, keys: Iterable[Key]) -> None:
    """Wait until no other transaction follows one of `keys`, and keep others waiting until this one ends."""
    # In one order everywhere, or two might wait for one another.
    names = sorted("signals " + " ".join(key.values) for key in keys)
    connection.execute(
        "SELECT pg_advisory_xact_lock(hashtextextended(name, 0)) FROM unnest(%s::text[]) AS name", (names,)
    )


def read_states(connection: Connection, keys: Iterable[Key]) -> dict[Key, State]:
    """How far each of `keys` was followed; those before their first defined signal are left out."""
    by_values = {key.values: key for key in keys}
    query = sql.SQL(
        "SELECT {key}, candle_watermark, settled_watermark, revision_watermark, last_type FROM signal_state"
        " JOIN unnest(%s::text[], %s::text[], %s::text[], %s::text[], %s::text[]) AS wanted ({key})"
        " USING ({key})"
    ).format(key=_COLUMNS)
    rows = connection.execute(query, columns(by_values, len(_KEY))).fetchall()
    return {
        by_values[tuple(values)]: State(
            from_datetime(candle), from_datetime(settled), revision, SignalType(last)
        )
        for *values, candle, settled, revision, last in rows
    }


def write_states(connection: Connection, states: Mapping[Key, State]) -> None:
    """Remember how far each key was followed, once it has a type to remember.

    What is settled of it is said by `write_settled`, and here only where nothing is remembered yet.
    """
    query = sql.SQL(
        "DELETE FROM signal_state USING unnest(%s::text[], %s::text[], %s::text[], %s::text[], %s::text[])"
        " AS gone ({key}) WHERE {same}"
    ).format(key=_COLUMNS, same=_same("signal_state", "gone"))
    untyped = [key.values for key, state in states.items() if state.last_type is None]
    if untyped:
        connection.execute(query, columns(untyped, len(_KEY)))
    rows = [
        (
            *key.values,
            to_datetime(state.candle_watermark),
            to_datetime(state.settled_watermark),
            state.revision_watermark,
            state.last_type,
        )
        for key, state in states.items()
        if state.last_type is not None
    ]
    connection.execute(
        "INSERT INTO signal_state (strategy_name, config_hash, exchange, symbol, interval,"
        " candle_watermark, settled_watermark, revision_watermark, last_type, updated_timestamp)"
        " SELECT *, now() FROM unnest(%s::text[], %s::text[], %s::text[], %s::text[], %s::text[],"
        " %s::timestamptz[], %s::timestamptz[], %s::bigint[], %s::text[])"
        " ON CONFLICT (strategy_name, config_hash, exchange, symbol, interval) DO UPDATE SET"
        " (candle_watermark, revision_watermark, last_type, updated_timestamp) = (excluded."
        "candle_watermark, excluded.revision_watermark, excluded.last_type, now())",
        columns(rows, len(_KEY) + 4),
    )


def write_settled(connection: Connection, until: Mapping[Key, int]) -> None:
    """Remember up to which candle (open time, microseconds UTC) each key is settled, if it is remembered."""
    query = sql.SQL(
        "UPDATE signal_state SET settled_watermark = until FROM unnest(%s::text[], %s::text[], %s::text[],"
        " %s::text[], %s::text[], %s::timestamptz[]) AS settled ({key}, until)"
        " WHERE {same} AND settled_watermark < until"
    ).format(key=_COLUMNS, same=_same("signal_state", "settled"))
    rows = [(*key.values, to_datetime(time)) for key, time in until.items()]
    connection.execute(query, columns(rows, len(_KEY) + 1))


def newest_revisions(connection: Connection, targets: Iterable[Target]) -> dict[tuple[str, str], int]:
    """The id of the newest revision of the tape of each instrument; those that have none are left out.

    Revisions of one instrument become visible in the order of their ids: it has one writer.
    """
    rows = connection.execute(
        "SELECT exchange, symbol, max(id) FROM tape_revisions"
        " WHERE (exchange, symbol) IN (SELECT * FROM unnest(%s::text[], %s::text[])) GROUP BY 1, 2",
        columns({target.instrument for target in targets}, 2),
    ).fetchall()
    return {(exchange, symbol): number for exchange, symbol, number in rows}


def changed_from(connection: Connection, target: Target, after: int, until: int) -> int | None:
    """Where the tape under `target` changed first, microseconds UTC, by revisions (after, until]."""
    row = connection.execute(
        "SELECT min(from_timestamp) FROM tape_revisions"
        " WHERE exchange = %s AND symbol = %s AND id > %s AND id <= %s",
        (target.exchange, target.symbol, after, until),
    ).fetchone()
    return from_datetime(row[0]) if row and row[0] else None


def reconcile(
    connection: Connection, wanted: Mapping[Span, Sequence[SignalRow]]
) -> dict[Span, tuple[Written, ...]]:
    """Make the newest revisions of each span equal to the rows that are wanted there.

    What is new becomes revision 0, what differs the next revision; what is stored and no longer
    called for is withdrawn by its next revision. What is equal is left alone.

    Args:
        connection: its transaction is the caller's.
        wanted: all that today's tape calls for; no two spans overlap.

    Returns:
        What was added to each, in order of time.
    """
    stored = _newest(connection, list(wanted))
    added = {span: _changes(span.key, rows, stored[span]) for span, rows in wanted.items()}
    numbers = iter(_insert(connection, [each for span in added.values() for each in span]))
    return {span: tuple(replace(w, id=next(numbers)) for w in rows) for span, rows in added.items()}


def _changes(key: Key, rows: Sequence[SignalRow], stored: Mapping[int, Written]) -> list[Written]:
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
    return sorted(added, key=lambda written: written.row.timestamp)


_NEWEST = sql.SQL(
    "SELECT place, newest.* FROM unnest(%s::text[], %s::text[], %s::text[], %s::text[], %s::text[],"
    " %s::timestamptz[], %s::timestamptz[]) WITH ORDINALITY AS span ({key}, span_start, span_end, place),"
    " LATERAL (SELECT DISTINCT ON (timestamp) id, revision, is_withdrawn, {row} FROM signals WHERE {same}"
    " AND timestamp > span_start AND timestamp <= span_end ORDER BY timestamp, revision DESC) newest"
).format(
    key=_COLUMNS,
    row=sql.SQL(", ").join(map(sql.Identifier, _ROW)),
    same=_same("signals", "span"),
)


def _newest(connection: Connection, spans: Sequence[Span]) -> dict[Span, dict[int, Written]]:
    """What the newest revisions say in each span, by time."""
    found: dict[Span, dict[int, Written]] = {span: {} for span in spans}
    rows = ((*span.key.values, to_datetime(span.start), to_datetime(span.end)) for span in spans)
    cursor = connection.execute(_NEWEST, columns(rows, len(_KEY) + 2))
    for place, number, revision, is_withdrawn, timestamp, *values in cursor:
        span, row = spans[place - 1], SignalRow(from_datetime(timestamp), *values)
        found[span][row.timestamp] = Written(number, span.key, revision, is_withdrawn, row)
    return found


def _next_revision(old: Written | None) -> int:
    return 0 if old is None else old.revision + 1


def _insert(connection: Connection, added: Sequence[Written]) -> Iterator[int]:
    """Their ids."""
    if not added:
        return
    names = (*_KEY, "revision", "is_withdrawn", *_ROW)
    query = sql.SQL("INSERT INTO signals ({}) VALUES ({}) RETURNING id").format(
        sql.SQL(", ").join(map(sql.Identifier, names)),
        sql.SQL(", ").join(sql.Placeholder() * len(names)),
    )
    rows = [(*w.key.values, w.revision, w.is_withdrawn, *_row_values(w.row)) for w in added]
    with connection.cursor() as cursor:
        # One after the other in a pipeline: ids rise with time, and there is one round trip.
        cursor.executemany(query, rows, returning=True)
        for result in cursor.results():
            (number,) = result.fetchone() or (0,)
            yield number


def _row_values(row: SignalRow) -> Iterator[Any]:
    for name in _ROW:
        value = getattr(row, name)
        if name == "timestamp":
            yield to_datetime(value)
        else:
            yield Jsonb(value) if isinstance(value, dict) else value
