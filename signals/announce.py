"""Which new signals are announced: those that are fresh and come from a live stream.

The alert row is written in the transaction that writes the signal. What is older than two intervals
by the stream's time, or comes from replay, import, backfill or healing, is stored in silence.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from market.timeframe import from_datetime, to_datetime
from storage.notify import notify
from storage.outbox import AlertType, Event, alert_rows, write_alerts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from signals.store import Written
    from signals.target import Target
    from storage.database import Connection

FRESH_INTERVALS = 2
_ALERTS = "alerts"


def announce(connection: Connection, written: Sequence[Written], channels: Sequence[str]) -> int:
    """Write the alerts of what was just added to `signals`.

    Args:
        connection: the transaction that added it.
        written: rows of one target, in order of time.
        channels: where to; none silences.

    Returns:
        How many alerts were written.
    """
    candidates = [each for each in written if each.revision == 0 and not each.is_withdrawn]
    if not candidates or not channels:
        return 0
    now = _stream_time(connection, candidates[0].key.target)
    fresh = [each for each in candidates if now is not None and is_fresh(each, now)]
    events = [_event(each) for each in fresh if _is_live(connection, each)]
    count = write_alerts(connection, [row for event in events for row in alert_rows(event, channels)])
    if count:
        notify(connection, _ALERTS)
    return count


def is_fresh(written: Written, now: int) -> bool:
    """Whether a signal is at most two intervals old when the stream's time is `now`, in µs UTC."""
    return now - written.row.timestamp <= FRESH_INTERVALS * written.key.target.timeframe.microseconds


def _stream_time(connection: Connection, target: Target) -> int | None:
    row = connection.execute(
        "SELECT watermark_timestamp FROM stream_state"
        " WHERE exchange = %s AND symbol = %s AND stream = 'trades'",
        (target.exchange, target.symbol),
    ).fetchone()
    return from_datetime(row[0]) if row else None


def _is_live(connection: Connection, written: Written) -> bool:
    """Whether the newest span of trades that reaches into the signal's candle was collected live."""
    target, close = written.key.target, written.row.timestamp
    row = connection.execute(
        "SELECT origin FROM stream_coverage WHERE exchange = %s AND symbol = %s AND stream = 'trades'"
        " AND from_timestamp < %s AND to_timestamp >= %s ORDER BY from_timestamp DESC LIMIT 1",
        (
            target.exchange,
            target.symbol,
            to_datetime(close),
            to_datetime(close - target.timeframe.microseconds),
        ),
    ).fetchone()
    return row is not None and row[0] == "live"


def _event(written: Written) -> Event:
    key, row = written.key, written.row
    target = key.target
    kind = row.signal_type.replace("_", " ")
    confidence = f"confidence {row.confidence_score:.0f} ({row.confidence_level})"
    return Event(
        alert_type=AlertType.SIGNAL_GENERATED,
        timestamp=row.timestamp,
        title=f"{kind} {target.symbol} {target.timeframe} on {target.exchange} at {row.price:,.10g}",
        message=f"{key.strategy_name}: score {row.score:+.2f}, {confidence}",
        dedupe_key=":".join(("signal_generated", *key.values, str(row.timestamp))),
        payload={
            "strategy": key.strategy_name,
            "exchange": target.exchange,
            "symbol": target.symbol,
            "interval": target.timeframe.value,
            "signal_type": row.signal_type,
            "score": row.score,
            "confidence_score": row.confidence_score,
            "confidence_level": row.confidence_level,
            "price": row.price,
            "cvd": row.cvd,
            "orderbook_imbalance": row.orderbook_imbalance,
            "reasons": row.reasons,
            "warnings": row.warnings,
        },
        signal_id=written.id,
    )
