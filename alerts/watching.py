"""Notices from outside that a collector has stopped without a word, and tells it once."""

from __future__ import annotations

from datetime import timedelta
from itertools import groupby
from typing import TYPE_CHECKING

from market.timeframe import format_time, from_datetime
from storage.outbox import AlertType, Event, write_alerts
from storage.streams import list_streams, server_time

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

    from storage.database import Connection
    from storage.routes import Routes
    from storage.streams import StreamRow

FRESH_SECONDS = 3600.0
"""A collector that stopped longer ago is no news."""


def tell_of_collectors(connection: Connection, routes: Routes, after_seconds: float) -> int:
    """Write an alert for each exchange whose collector has said nothing for so long.

    Each silence is told once, however often and by however many processes it is noticed; one that said that
    it stops is not missed.

    Returns:
        How many rows were new.
    """
    now = server_time(connection)
    lost = [row for row in list_streams(connection) if _is_lost(row, now, after_seconds)]
    with connection.transaction():
        return write_alerts(connection, [row for event in _events(lost, now) for row in routes.rows(event)])


def _is_lost(row: StreamRow, now: datetime, after_seconds: float) -> bool:
    silence = row.silence(now)
    is_news = timedelta(seconds=after_seconds) < silence < timedelta(seconds=FRESH_SECONDS)
    # Only the stream of trades has a heartbeat of its own.
    return row.stream == "trades" and row.has_stopped(now) and is_news


def _events(lost: Sequence[StreamRow], now: datetime) -> Iterator[Event]:
    for exchange, found in groupby(lost, lambda row: row.exchange):
        rows = list(found)
        last = max(row.updated_timestamp for row in rows)
        symbols = [row.symbol for row in rows]
        since = format_time(from_datetime(last))
        yield Event(
            alert_type=AlertType.COLLECTOR_DOWN,
            timestamp=from_datetime(now),
            title=f"the collector of {exchange} is down",
            message=f"no heartbeat since {since}: {', '.join(symbols)}",
            # The heartbeat stands still while it is down; the next silence has another one.
            dedupe_key=f"collector_down:{exchange}:{since}",
            payload={"exchange": exchange, "symbols": symbols, "last_heartbeat": since},
        )
