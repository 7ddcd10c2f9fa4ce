"""How the outbox is sent: claims that never give one row to two, and what became of it.

Claiming a row counts an attempt and leases the row, and is committed before the sending; so a dispatcher
that dies in between leaves a row that is sent again once its lease is over, marked as a possible duplicate.
"""

from collections.abc import Collection

from msgspec import Struct

from market import MICROSECONDS
from market.timeframe import from_datetime, to_datetime
from storage.database import Connection
from storage.outbox import STORED, Alert, read_alerts

__all__ = [
    "LEASE",
    "Waiting",
    "claim",
    "lock_channel",
    "mark_dead",
    "mark_failed",
    "mark_sent",
    "mark_suppressed",
    "waiting",
]

LEASE = 60 * MICROSECONDS


class Waiting(Struct, frozen=True):
    """What of a row that is not sent yet decides whether and when it is.

    `due` is in microseconds UTC, 0: at once; of the payload only what rules ask for is there.
    """

    id: int
    severity: str
    attempts: int
    due: int = 0
    channel: str = ""
    alert_type: str = ""
    payload: dict[str, str | None] = {}


def lock_channel(connection: Connection, channel: str) -> bool:
    """Whether this session is the one that sends on `channel`, from now until it ends.

    So its order is kept, and its limits hold however many dispatchers there are.
    """
    row = connection.execute(
        "SELECT pg_try_advisory_lock(hashtextextended('alerts:' || %s, 0))", (channel,)
    ).fetchone()
    return row == (True,)


def waiting(connection: Connection, channel: str, limit: int, *, is_critical: bool = False) -> list[Waiting]:
    """The first `limit` rows of `channel` that are not sent yet, oldest first.

    Args:
        connection: any.
        channel: whose.
        limit: how many at most.
        is_critical: only those that are critical.
    """
    rows = connection.execute(
        """
        SELECT id, severity, attempts, next_attempt_timestamp, alert_type,
            payload->>'exchange', payload->>'symbol', payload->>'strategy'
        FROM alerts
        WHERE channel = %s AND status IN ('pending', 'failed') AND (severity = 'critical' OR NOT %s)
        ORDER BY id LIMIT %s
        """,
        (channel, is_critical, limit),
    )
    return [
        Waiting(
            number,
            severity,
            attempts,
            0 if due is None else from_datetime(due),
            channel,
            alert_type,
            {"exchange": exchange, "symbol": symbol, "strategy": strategy},
        )
        for number, severity, attempts, due, alert_type, exchange, symbol, strategy in rows
    ]


def claim(connection: Connection, ids: Collection[int], now: int, *, lease: int = LEASE) -> list[Alert]:
    """Claim those of these rows that are due, for `lease` microseconds from `now`, oldest first.

    Rows that another dispatcher has are passed over. Commit before sending: from then on the rows are
    nobody else's until the lease is over.
    """
    statement = f"""
        WITH due AS (
            SELECT id FROM alerts
            WHERE id = ANY(%(ids)s) AND status IN ('pending', 'failed')
                AND (next_attempt_timestamp IS NULL OR next_attempt_timestamp <= %(now)s)
            ORDER BY id FOR UPDATE SKIP LOCKED)
        UPDATE alerts SET
            status = 'pending',
            attempts = attempts + 1,
            is_possible_duplicate = is_possible_duplicate OR (status = 'pending' AND attempts > 0),
            next_attempt_timestamp = %(until)s
        FROM due WHERE alerts.id = due.id
        RETURNING {STORED}"""  # noqa: S608 - names of our own
    given = {"ids": list(ids), "now": to_datetime(now), "until": to_datetime(now + lease)}
    return sorted(read_alerts(connection, statement, given), key=lambda alert: alert.id)


def mark_sent(connection: Connection, ids: Collection[int], now: int) -> None:
    """The channel has taken them."""
    connection.execute(
        "UPDATE alerts SET status = 'sent', sent_timestamp = %s, next_attempt_timestamp = NULL,"
        " error = NULL WHERE id = ANY(%s)",
        (to_datetime(now), list(ids)),
    )


def mark_failed(
    connection: Connection,
    ids: Collection[int],
    error: str,
    next_attempt: int,
    *,
    is_answer_lost: bool = False,
) -> None:
    """The attempt failed; the next one is due at `next_attempt`, in microseconds UTC.

    `is_answer_lost`: the channel may have taken them all the same, as after a time-out.
    """
    connection.execute(
        "UPDATE alerts SET status = 'failed', error = %s, next_attempt_timestamp = %s,"
        " is_possible_duplicate = is_possible_duplicate OR %s WHERE id = ANY(%s)",
        (error, to_datetime(next_attempt), is_answer_lost, list(ids)),
    )


def mark_dead(
    connection: Connection, ids: Collection[int], error: str, *, is_answer_lost: bool = False
) -> None:
    """They will not be tried again."""
    connection.execute(
        "UPDATE alerts SET status = 'dead', error = %s, next_attempt_timestamp = NULL,"
        " is_possible_duplicate = is_possible_duplicate OR %s WHERE id = ANY(%s)",
        (error, is_answer_lost, list(ids)),
    )


def mark_suppressed(connection: Connection, ids: Collection[int], reason: str) -> None:
    """They are not to be sent."""
    connection.execute(
        "UPDATE alerts SET status = 'suppressed', error = %s, next_attempt_timestamp = NULL"
        " WHERE id = ANY(%s) AND status IN ('pending', 'failed')",
        (reason, list(ids)),
    )
