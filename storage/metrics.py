"""What the parts of the system measure of themselves: written, read back, and forgotten in time."""

from collections.abc import Mapping, Sequence
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


def newest_metrics(
    connection: Connection,
    component: str,
    metrics: Sequence[str],
    labels: Sequence[Mapping[str, str]],
    since: int,
) -> list[Measured]:
    """The newest values of these metrics for each of these labels; labels without any are left out.

    Args:
        connection: read with the caller's transaction.
        component: what measured.
        metrics: names; with the labels they are what the rows are found by, however many there are.
        labels: each as it was written.
        since: microseconds UTC; what is older counts as nothing.
    """
    rows = connection.execute(
        """
        SELECT labels, max(timestamp), jsonb_object_agg(metric, value)
        FROM (
            SELECT DISTINCT ON (labels_hash, metric) labels, timestamp, metric, value
            FROM system_metrics
            WHERE component = %(component)s AND metric = ANY (%(metrics)s) AND timestamp > %(since)s
                AND labels_hash = ANY (ARRAY(SELECT md5(one::text) FROM unnest(%(labels)s::jsonb[]) AS one))
            ORDER BY labels_hash, metric, timestamp DESC) AS newest
        GROUP BY labels ORDER BY labels
        """,
        {
            "component": component,
            "metrics": list(metrics),
            "labels": [Jsonb(dict(one)) for one in labels],
            "since": to_datetime(since),
        },
    ).fetchall()
    return [Measured(component, found, timestamp, values) for found, timestamp, values in rows]


def forget_metrics(connection: Connection, days: int = KEPT_DAYS) -> None:
    """Drop the chunks that lie wholly before so many days ago."""
    connection.execute(
        "SELECT drop_chunks('system_metrics', older_than => make_interval(days => %s))", [days]
    )
