"""The outbox of alerts, one row for each event and channel: its one writer, and lists of it.

An alert is written in the transaction that caused it, and sent at least once: `storage.sending`.
"""

from collections.abc import Collection, Iterable, Sequence
from enum import StrEnum
from typing import Any

from msgspec import Struct, field, structs
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from market.timeframe import from_datetime, to_datetime
from storage.database import Connection
from storage.notify import notify

__all__ = [
    "CHANNEL",
    "STORED",
    "Alert",
    "AlertRow",
    "AlertType",
    "Event",
    "Severity",
    "alert_rows",
    "find_alert",
    "list_alerts",
    "read_alerts",
    "retry",
    "write_alerts",
]

CHANNEL = "alerts"
"""On which it is notified that there are new rows."""
DEFAULT_CHANNELS = ("console",)


class AlertType(StrEnum):
    """What happened."""

    SIGNAL_GENERATED = "signal_generated"
    POSITION_OPENED = "position_opened"
    POSITION_CLOSED = "position_closed"
    STOP_LOSS = "stop_loss"
    TAKE_PROFIT = "take_profit"
    SYSTEM_ERROR = "system_error"
    DATA_GAP = "data_gap"
    COLLECTOR_DOWN = "collector_down"
    RUN_FINISHED = "run_finished"
    TEST = "test"


class Severity(StrEnum):
    """How much it matters."""

    INFO = "info"
    WARNING = "warning"
    CRITICAL = "critical"


_SEVERITIES = {
    AlertType.STOP_LOSS: Severity.WARNING,
    AlertType.DATA_GAP: Severity.WARNING,
    AlertType.COLLECTOR_DOWN: Severity.CRITICAL,
    AlertType.SYSTEM_ERROR: Severity.CRITICAL,
}


class Event(Struct, frozen=True, kw_only=True):
    """Something worth telling.

    Attributes:
        alert_type: what happened.
        timestamp: when, in microseconds UTC, by the time of the data it speaks of.
        title: one line.
        message: the whole of it, with the numbers that say why.
        dedupe_key: the same for the same event however often it is found, such as
            ``signal_generated:<strategy>:<hash>:<exchange>:<symbol>:<interval>:<time>``.
        payload: the numbers, for machines.
        severity: by the alert type unless given.
        signal_id: the signal it is about.
        position_id: the position it is about.
    """

    alert_type: AlertType
    timestamp: int
    title: str
    message: str
    dedupe_key: str
    payload: dict[str, Any] = field(default_factory=dict)
    severity: Severity | None = None
    signal_id: int | None = None
    position_id: int | None = None


class AlertRow(Struct, frozen=True, kw_only=True):
    """One event on its way to one channel, as the table takes it; the time in microseconds UTC."""

    timestamp: int
    alert_type: AlertType
    severity: Severity
    title: str
    message: str
    payload: dict[str, Any]
    channel: str
    dedupe_key: str
    signal_id: int | None
    position_id: int | None
    status: str = "pending"
    error: str | None = None

    def suppressed(self, reason: str) -> "AlertRow":
        """The same, which is not to be sent."""
        return structs.replace(self, status="suppressed", error=reason)


class Alert(Struct, frozen=True, kw_only=True):
    """One stored row of the outbox; times in microseconds UTC."""

    id: int
    timestamp: int
    alert_type: str
    severity: str
    title: str
    message: str
    payload: dict[str, Any]
    channel: str
    status: str
    attempts: int
    is_possible_duplicate: bool
    next_attempt_timestamp: int | None
    sent_timestamp: int | None
    dedupe_key: str
    error: str | None
    signal_id: int | None
    position_id: int | None


_COLUMNS = ", ".join(AlertRow.__struct_fields__)
_PLACES = ", ".join(f"%({name})s" for name in AlertRow.__struct_fields__)
STORED = ", ".join(f"alerts.{name}" for name in Alert.__struct_fields__)
_TIMES = ("timestamp", "next_attempt_timestamp", "sent_timestamp")


def alert_rows(event: Event, channels: Iterable[str] = DEFAULT_CHANNELS) -> list[AlertRow]:
    """The rows that `event` becomes: one for each channel, in the channels' order."""
    severity = event.severity or _SEVERITIES.get(event.alert_type, Severity.INFO)
    return [
        AlertRow(
            timestamp=event.timestamp,
            alert_type=event.alert_type,
            severity=severity,
            title=event.title,
            message=event.message,
            payload=event.payload,
            channel=channel,
            dedupe_key=event.dedupe_key,
            signal_id=event.signal_id,
            position_id=event.position_id,
        )
        for channel in dict.fromkeys(channels)
    ]


def write_alerts(connection: Connection, rows: Sequence[AlertRow]) -> int:
    """Write `rows` in the caller's transaction; those whose event is told already are left out.

    Who sends is woken when the transaction commits.

    Returns:
        How many were new.
    """
    if not rows:
        return 0
    statement = (
        f"INSERT INTO alerts ({_COLUMNS}) VALUES ({_PLACES})"  # noqa: S608 - names of our own
        " ON CONFLICT (dedupe_key, channel) DO NOTHING"
    )
    with connection.cursor() as cursor:
        cursor.executemany(statement.encode(), [_parameters(row) for row in rows])
        count = cursor.rowcount
    if count:
        notify(connection, CHANNEL)
    return count


def retry(connection: Connection, ids: Collection[int] | None = None, *, channel: str | None = None) -> int:
    """Let alerts that are dead or suppressed be sent after all; says how many.

    Args:
        connection: its transaction is the caller's.
        ids: these, also such that wait for their next attempt, which is due at once then; without, every
            dead one.
        channel: only of this channel.
    """
    statuses = ["dead"] if ids is None else ["dead", "suppressed", "failed"]
    count = connection.execute(
        """
        UPDATE alerts SET status = 'failed', attempts = 0, next_attempt_timestamp = NULL
        WHERE status = ANY(%(statuses)s) AND (%(ids)s::bigint[] IS NULL OR id = ANY(%(ids)s))
            AND (%(channel)s::text IS NULL OR channel = %(channel)s)
        """,
        {"statuses": statuses, "ids": None if ids is None else list(ids), "channel": channel},
    ).rowcount
    if count:
        notify(connection, CHANNEL)
    return count


def find_alert(connection: Connection, alert_id: int) -> Alert | None:
    """The alert with this id."""
    statement = f"SELECT {STORED} FROM alerts WHERE id = %(id)s"  # noqa: S608 - names of our own
    return next(iter(read_alerts(connection, statement, {"id": alert_id})), None)


def list_alerts(
    connection: Connection,
    *,
    channel: str | None = None,
    status: str | None = None,
    limit: int = 50,
) -> list[Alert]:
    """The newest `limit` alerts, newest first."""
    statement = f"""
        SELECT {STORED} FROM alerts
        WHERE (%(channel)s::text IS NULL OR channel = %(channel)s)
            AND (%(status)s::text IS NULL OR status = %(status)s)
        ORDER BY id DESC LIMIT %(limit)s"""  # noqa: S608 - names of our own
    return read_alerts(connection, statement, {"channel": channel, "status": status, "limit": limit})


def _parameters(row: AlertRow) -> dict[str, Any]:
    given = {name: getattr(row, name) for name in AlertRow.__struct_fields__}
    return {**given, "timestamp": to_datetime(row.timestamp), "payload": Jsonb(row.payload)}


def read_alerts(connection: Connection, statement: str, given: dict[str, Any]) -> list[Alert]:
    """What a statement gives that selects STORED."""
    with connection.cursor(row_factory=dict_row) as cursor:
        rows = cursor.execute(statement.encode(), given).fetchall()
    for row in rows:
        row |= {name: from_datetime(row[name]) for name in _TIMES if row[name] is not None}
    return [Alert(**row) for row in rows]
