"""The outbox of alerts: its one writer, and the claims by which a dispatcher sends it.

An alert is written in the transaction that caused it and sent at least once. Claiming a row counts
an attempt and leases the row, and is committed before the sending; so a dispatcher that dies in
between leaves a row that is sent again once its lease is over, marked as a possible duplicate.
"""

from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import Any

from msgspec import Struct, field
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from market import MICROSECONDS
from market.timeframe import from_datetime, to_datetime
from storage.database import Connection

__all__ = [
    "LEASE",
    "Alert",
    "AlertRow",
    "AlertType",
    "Event",
    "Severity",
    "alert_rows",
    "claim_due",
    "list_alerts",
    "mark_dead",
    "mark_failed",
    "mark_sent",
    "write_alerts",
]

DEFAULT_CHANNELS = ("console",)
LEASE = 60 * MICROSECONDS


class AlertType(StrEnum):
    """What happened."""

    SIGNAL_GENERATED = "signal_generated"
    POSITION_OPENED = "position_opened"
    POSITION_CLOSED = "position_closed"
    STOP_LOSS = "stop_loss"
    TAKE_PROFIT = "take_profit"
    SYSTEM_ERROR = "system_error"
    DATA_GAP = "data_gap"


class Severity(StrEnum):
    """How much it matters."""

    INFO = "info"
    WARNING = "warning"
    CRITICAL = "critical"


_SEVERITIES = {
    AlertType.STOP_LOSS: Severity.WARNING,
    AlertType.DATA_GAP: Severity.WARNING,
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
_STORED = ", ".join(f"alerts.{name}" for name in Alert.__struct_fields__)
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
        return cursor.rowcount


def claim_due(
    connection: Connection, channel: str, now: int, limit: int, *, lease: int = LEASE
) -> list[Alert]:
    """Claim what is due on `channel`, oldest first, for `lease` microseconds from `now`.

    Rows that another dispatcher is claiming are passed over. Commit before sending: from then on
    the row is nobody else's until the lease is over.
    """
    statement = f"""
        WITH due AS (
            SELECT id FROM alerts
            WHERE channel = %(channel)s AND status IN ('pending', 'failed')
                AND (next_attempt_timestamp IS NULL OR next_attempt_timestamp <= %(now)s)
            ORDER BY id LIMIT %(limit)s FOR UPDATE SKIP LOCKED)
        UPDATE alerts SET
            status = 'pending',
            attempts = attempts + 1,
            is_possible_duplicate = is_possible_duplicate OR (status = 'pending' AND attempts > 0),
            next_attempt_timestamp = %(until)s
        FROM due WHERE alerts.id = due.id
        RETURNING {_STORED}"""  # noqa: S608 - names of our own
    until = to_datetime(now + lease)
    given = {"channel": channel, "now": to_datetime(now), "until": until, "limit": limit}
    return sorted(_alerts(connection, statement, given), key=lambda alert: alert.id)


def mark_sent(connection: Connection, alert_id: int, now: int) -> None:
    """The channel has taken it."""
    connection.execute(
        "UPDATE alerts SET status = 'sent', sent_timestamp = %s, next_attempt_timestamp = NULL,"
        " error = NULL WHERE id = %s",
        (to_datetime(now), alert_id),
    )


def mark_failed(
    connection: Connection,
    alert_id: int,
    error: str,
    next_attempt: int,
    *,
    is_answer_lost: bool = False,
) -> None:
    """The attempt failed; the next one is due at `next_attempt`, in microseconds UTC.

    `is_answer_lost`: the channel may have taken it all the same, as after a time-out.
    """
    connection.execute(
        "UPDATE alerts SET status = 'failed', error = %s, next_attempt_timestamp = %s,"
        " is_possible_duplicate = is_possible_duplicate OR %s WHERE id = %s",
        (error, to_datetime(next_attempt), is_answer_lost, alert_id),
    )


def mark_dead(connection: Connection, alert_id: int, error: str) -> None:
    """It will not be tried again."""
    connection.execute(
        "UPDATE alerts SET status = 'dead', error = %s, next_attempt_timestamp = NULL WHERE id = %s",
        (error, alert_id),
    )


def list_alerts(
    connection: Connection,
    *,
    channel: str | None = None,
    status: str | None = None,
    limit: int = 50,
) -> list[Alert]:
    """The newest `limit` alerts, newest first."""
    statement = f"""
        SELECT {_STORED} FROM alerts
        WHERE (%(channel)s::text IS NULL OR channel = %(channel)s)
            AND (%(status)s::text IS NULL OR status = %(status)s)
        ORDER BY id DESC LIMIT %(limit)s"""  # noqa: S608 - names of our own
    return _alerts(connection, statement, {"channel": channel, "status": status, "limit": limit})


def _parameters(row: AlertRow) -> dict[str, Any]:
    given = {name: getattr(row, name) for name in AlertRow.__struct_fields__}
    return {**given, "timestamp": to_datetime(row.timestamp), "payload": Jsonb(row.payload)}


def _alerts(connection: Connection, statement: str, given: dict[str, Any]) -> list[Alert]:
    with connection.cursor(row_factory=dict_row) as cursor:
        rows = cursor.execute(statement.encode(), given).fetchall()
    for row in rows:
        row |= {name: from_datetime(row[name]) for name in _TIMES if row[name] is not None}
    return [Alert(**row) for row in rows]
