"""What a live collector tells people of holes, in the transactions that find and give them up."""

from collector.rows import Gap
from market import MICROSECONDS, format_time
from storage.database import Connection
from storage.holes import Hole
from storage.outbox import AlertType, Event, Severity, write_alerts
from storage.routes import Routes

FRESH = 600 * MICROSECONDS
"""A hole that ended longer ago is history: what the spool held, a replay, a simulated day."""


def tell_found(connection: Connection, routes: Routes, exchange: str, gap: Gap, now: int) -> None:
    """Tell of a hole that its ids show, and that is asked for over REST from now on; with nothing old.

    Args:
        connection: the transaction that puts it on record.
        routes: where to.
        exchange: exchange id.
        gap: the hole.
        now: microseconds UTC.
    """
    if gap.status == "confirmed" and now - gap.to_timestamp <= FRESH:
        message = f"{_count(gap)} missing, and asked for over REST"
        _tell(connection, routes, _event("found", exchange, gap, message, Severity.INFO))


def tell_given_up(connection: Connection, routes: Routes, gap: Hole, reason: str) -> None:
    """Tell of a hole that stays.

    Args:
        connection: the transaction that says so.
        routes: where to.
        gap: the hole.
        reason: why nobody can fill it.
    """
    message = f"{_count(gap)} missing for good: {reason}"
    _tell(connection, routes, _event("given_up", gap.exchange, gap, message, Severity.WARNING))


def _tell(connection: Connection, routes: Routes, event: Event) -> None:
    write_alerts(connection, routes.rows(event))


def _event(what: str, exchange: str, gap: Gap | Hole, message: str, severity: Severity) -> Event:
    begin, end = format_time(gap.from_timestamp), format_time(gap.to_timestamp)
    return Event(
        alert_type=AlertType.DATA_GAP,
        timestamp=gap.to_timestamp,
        title=f"a hole in {gap.stream} of {gap.symbol} on {exchange}",
        message=f"{begin} to {end}: {message}",
        dedupe_key=f"data_gap:{what}:{exchange}:{gap.symbol}:{gap.stream}:{gap.from_timestamp}:{gap.from_id}",
        severity=severity,
        payload={
            "exchange": exchange,
            "symbol": gap.symbol,
            "stream": gap.stream,
            "cause": gap.cause,
            "from": begin,
            "to": end,
            "from_id": gap.from_id,
            "to_id": gap.to_id,
            "missing_count": gap.missing_count,
        },
    )


def _count(gap: Gap | Hole) -> str:
    return "trades are" if gap.missing_count is None else f"{gap.missing_count:,} trades are"
