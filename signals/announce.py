"""Which new signals are announced: those that are fresh and come from a live stream.

The alert row is written in the transaction that writes the signal. What is older than two intervals
by the stream's time, or comes from replay, import, backfill or healing, is stored in silence.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from market.timeframe import to_datetime
from signals.target import columns
from storage.outbox import AlertType, Event, write_alerts

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from signals.store import Written
    from storage.database import Connection
    from storage.routes import Routes

FRESH_INTERVALS = 2

_FRESH = """
SELECT place FROM unnest(%s::text[], %s::text[], %s::timestamptz[], %s::timestamptz[])
    WITH ORDINALITY AS signal (exchange, symbol, opened, closed, place)
JOIN stream_state AS state USING (exchange, symbol),
LATERAL (
    SELECT origin FROM stream_coverage AS coverage
    WHERE (coverage.exchange, coverage.symbol, coverage.stream) = (signal.exchange, signal.symbol, 'trades')
        AND from_timestamp < closed AND to_timestamp >= opened
    ORDER BY from_timestamp DESC LIMIT 1) newest
WHERE state.stream = 'trades' AND newest.origin = 'live'
    AND watermark_timestamp - closed <= %s * (closed - opened)
ORDER BY place
"""


def announce(connection: Connection, written: Iterable[Written], routes: Routes) -> int:
    """Write the alerts of what was just added to `signals`.

    Args:
        connection: the transaction that added it.
        written: rows, those of a target in order of time.
        routes: where to.

    Returns:
        How many alerts were written.
    """
    candidates = [each for each in written if each.revision == 0 and not each.is_withdrawn]
    if not candidates or not routes.channels:
        return 0
    events = [_event(each) for each in _fresh(connection, candidates)]
    return write_alerts(connection, [row for event in events for row in routes.rows(event)])


def _fresh(connection: Connection, written: Sequence[Written]) -> Iterator[Written]:
    """Those that are at most two intervals old by the stream's time, and were collected live.

    The newest span of trades that reaches into a signal's candle says how it was collected.
    """
    candles = []
    for each in written:
        target, close = each.key.target, each.row.timestamp
        opened = to_datetime(close - target.timeframe.microseconds)
        candles.append((*target.instrument, opened, to_datetime(close)))
    for (place,) in connection.execute(_FRESH, (*columns(candles, 4), FRESH_INTERVALS)).fetchall():
        yield written[place - 1]


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
