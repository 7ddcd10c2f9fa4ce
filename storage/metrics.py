"""What the parts of the system measure of themselves: written, read back, and forgotten in time."""

from collections.abc import Mapping
from datetime import datetime

from msgspec import Struct
from psycopg.types.json import Jsonb

from market.timeframe import to_datetime
from storage.database import Connection

KEPT_DAYS = 30
"""Older metrics are dropped, whole chunks of 7 days at a time."""


class Measured(Struct, frozen=True):
    """The newest values of one component with these labels."""

    component: str
    labels: dict[str, str]
    timestamp: datetime
    values: dict[str, float]


def write_metrics(
    connection: Connection,
    component: str,
    timestamp: int,
    values: Mapping[str, float],
    labels: Mapping[str, str],
) -> None:
    """Add one row for each value; a row that is there already stays as it is.

    Args:
        connection: its transaction is the caller's.
        component: what measured, such as `collector`.
        timestamp: when, in microseconds UTC.
        values: finite numbers by the name of their metric.
        labels: what tells two of one component apart, such as the exchange.
    """
    connection.execute(
        """
        INSERT INTO system_metrics (timestamp, component, metric, value, labels)
        SELECT %(timestamp)s, %(component)s, metric, value, %(labels)s
        FROM unnest(%(metrics)s::text[], %(values)s::float8[]) AS measured (metric, value)
        ON CONFLICT DO NOTHING
        """,
        {
            "timestamp": to_datetime(timestamp),
            "component": component,
            "labels": Jsonb(dict(labels)),
            "metrics": list(values),
            "values": list(values.values()),
        },
    )


def newest_metrics(connection: Connection, component: str, since: int) -> list[Measured]:
    """The newest values of each of a component's labels, of those written after `since` (µs UTC)."""
    rows = connection.execute(
        """
        SELECT labels, timestamp, jsonb_object_agg(metric, value)
        FROM (SELECT labels, labels_hash, timestamp, metric, value,
                max(timestamp) OVER (PARTITION BY labels_hash) AS newest
              FROM system_metrics WHERE component = %s AND timestamp > %s) AS measured
        WHERE timestamp = newest GROUP BY labels, timestamp ORDER BY labels
        """,
        (component, to_datetime(since)),
    ).fetchall()
    return [Measured(component, labels, timestamp, values) for labels, timestamp, values in rows]


def forget_metrics(connection: Connection, days: int = KEPT_DAYS) -> None:
    """Drop the chunks that lie wholly before so many days ago."""
    connection.execute(
        "SELECT drop_chunks('system_metrics', older_than => make_interval(days => %s))", [days]
    )
