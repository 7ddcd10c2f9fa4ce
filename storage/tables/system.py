"""What the system says of itself: its metrics, the outbox of alerts, what it did to chunks."""

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Computed,
    ForeignKey,
    Index,
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
    text,
)

from storage.tables.backtests import positions
from storage.tables.columns import (
    big,
    count,
    document,
    finite,
    flag,
    metadata,
    moment,
    number,
    one_of,
    words,
)
from storage.tables.signals import signals

system_metrics = Table(
    "system_metrics",
    metadata,
    moment("timestamp"),
    words("component"),
    words("metric"),
    finite("value"),
    document("labels", default="{}"),
    Column("labels_hash", Text, Computed("md5(labels::text)", persisted=True), nullable=False),
    PrimaryKeyConstraint("component", "metric", "labels_hash", "timestamp"),
)

alerts = Table(
    "alerts",
    metadata,
    number(),
    moment("timestamp"),
    words("alert_type"),
    one_of("severity", ("info", "warning", "critical")),
    words("title"),
    words("message"),
    document("payload", default="{}"),
    words("channel"),
    one_of("status", ("pending", "sent", "failed", "dead", "suppressed"), default="pending"),
    count("attempts", default="0"),
    flag("is_possible_duplicate", default="false"),
    moment("next_attempt_timestamp", null=True),
    moment("sent_timestamp", null=True),
    words("dedupe_key"),
    words("error", null=True),
    Column("signal_id", BigInteger, ForeignKey(signals.c.id, ondelete="SET NULL")),
    Column("position_id", BigInteger, ForeignKey(positions.c.id, ondelete="SET NULL")),
    UniqueConstraint("dedupe_key", "channel"),
    Index("alerts_status_next_attempt_timestamp_idx", "status", "next_attempt_timestamp"),
    Index("alerts_signal_id_idx", "signal_id"),
    Index("alerts_position_id_idx", "position_id"),
    Index("alerts_channel_id_idx", "channel", "id", postgresql_where=text("status IN ('pending', 'failed')")),
    Index(
        "alerts_channel_sent_timestamp_idx",
        "channel",
        "sent_timestamp",
        postgresql_where=text("sent_timestamp IS NOT NULL"),
    ),
)

alert_mutes = Table(
    "alert_mutes",
    metadata,
    words("channel"),
    moment("until_timestamp"),
    moment("created_timestamp", now=True),
    words("alert_type", default=""),
    words("exchange", default=""),
    words("symbol", default=""),
    words("strategy", default=""),
    PrimaryKeyConstraint("channel", "alert_type", "exchange", "symbol", "strategy"),
)

channel_calls = Table(
    "channel_calls",
    metadata,
    number(),
    words("place"),
    moment("began_timestamp"),
    moment("ended_timestamp", null=True),
    Index("channel_calls_place_ended_timestamp_idx", "place", "ended_timestamp"),
)

chat_watches = Table(
    "chat_watches",
    metadata,
    big("chat_id"),
    words("exchange"),
    words("symbol"),
    moment("created_timestamp", now=True),
    PrimaryKeyConstraint("chat_id", "exchange", "symbol"),
)

compressions = Table(
    "compressions",
    metadata,
    number(),
    words("table_name"),
    words("chunk_name"),
    moment("from_timestamp"),
    moment("to_timestamp"),
    one_of("outcome", ("compressed", "refused")),
    count("row_count"),
    count("bytes_before"),
    count("bytes_after"),
    words("note", null=True),
    moment("created_timestamp", now=True),
    CheckConstraint("from_timestamp <= to_timestamp", name="span"),
)
