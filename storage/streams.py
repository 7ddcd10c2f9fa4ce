"""How each stream is by its collector's heartbeat, and who holds the right to write it."""

from datetime import datetime, timedelta

from msgspec import Struct

from storage.database import Connection

HEARTBEAT_SECONDS = 5.0
"""A collector says each second how its streams are; after so long without a word it does not run any more."""
NO_HEARTBEAT = "no heartbeat"


class StreamRow(Struct, frozen=True):
    """One stream, as its collector described it last."""

    exchange: str
    symbol: str
    stream: str
    status: str
    detail: str
    updated_timestamp: datetime
    watermark_timestamp: datetime | None
    open_gaps: int

    def silence(self, now: datetime) -> timedelta:
        """How long its collector has said nothing."""
        return now - self.updated_timestamp

    def has_stopped(self, now: datetime) -> bool:
        """Whether its collector went away without saying so."""
        return self.status != "down" and self.silence(now) > timedelta(seconds=HEARTBEAT_SECONDS)

    def state(self, now: datetime) -> tuple[str, str]:
        """Its state and what is to be said of it: down without a word of a collector, else what that says."""
        return ("down", NO_HEARTBEAT) if self.has_stopped(now) else (self.status, self.detail)


class LockHolder(Struct, frozen=True):
    """A session that is the one writer of an instrument."""

    exchange: str
    symbol: str
    pid: int
    application_name: str
    updated_timestamp: datetime


def list_streams(connection: Connection) -> list[StreamRow]:
    """Every stream that a collector ever wrote, by exchange, symbol and stream."""
    rows = connection.execute(
        """
        SELECT exchange, symbol, stream, status, detail, updated_timestamp,
            nullif(watermark_timestamp, to_timestamp(0)),
            (SELECT count(*) FROM stream_gaps AS gap
             WHERE gap.exchange = state.exchange AND gap.symbol = state.symbol AND gap.stream = state.stream
                AND gap.status IN ('suspected', 'confirmed'))
        FROM stream_state AS state ORDER BY exchange, symbol, stream
        """
    ).fetchall()
    return [StreamRow(*row) for row in rows]


def lock_holders(connection: Connection) -> list[LockHolder]:
    """The sessions that hold the lock of an instrument's one writer, by exchange and symbol."""
    rows = connection.execute(
        """
        SELECT state.exchange, state.symbol, holder.pid, holder.application_name, state.updated_timestamp
        FROM stream_state AS state
        JOIN pg_locks AS lock ON ((lock.classid::bigint << 32) | lock.objid::bigint)
            = hashtextextended(state.exchange || ':' || state.symbol, 0)
        JOIN pg_stat_activity AS holder ON holder.pid = lock.pid
        WHERE state.stream = 'trades' AND lock.locktype = 'advisory' AND lock.granted AND lock.objsubid = 1
            AND holder.datname = current_database()
            AND lock.database = (SELECT oid FROM pg_database WHERE datname = current_database())
        ORDER BY state.exchange, state.symbol
        """
    ).fetchall()
    return [LockHolder(*row) for row in rows]


def server_time(connection: Connection) -> datetime:
    """The database's clock, which stamps every heartbeat."""
    row = connection.execute("SELECT clock_timestamp()").fetchone()
    assert row is not None  # noqa: S101 - a query without a table always has its row
    found: datetime = row[0]
    return found
