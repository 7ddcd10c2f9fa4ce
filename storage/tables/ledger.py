"""The ledger of completeness: which spans of each stream are proven whole, every hole, and what went away."""

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Index,
    LargeBinary,
    PrimaryKeyConstraint,
    Table,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import ExcludeConstraint

from storage.tables.columns import big, count, document, metadata, moment, number, one_of, words

STREAMS = ("trades", "book", "candles")

stream_state = Table(
    "stream_state",
    metadata,
    words("exchange"),
    words("symbol"),
    one_of("stream", STREAMS),
    words("watermark"),
    moment("watermark_timestamp"),
    Column("epoch", BigInteger, nullable=False),
    one_of("status", ("live", "stale", "healing", "down")),
    words("detail", default=""),
    moment("updated_timestamp", now=True),
    PrimaryKeyConstraint("exchange", "symbol", "stream"),
)

stream_coverage = Table(
    "stream_coverage",
    metadata,
    words("exchange"),
    words("symbol"),
    one_of("stream", STREAMS),
    moment("from_timestamp"),
    moment("to_timestamp"),
    words("from_id", null=True),
    words("to_id", null=True),
    one_of("proof", ("ids", "connection", "rest", "file")),
    one_of("origin", ("live", "healed", "backfill", "replay", "import")),
    count("row_count"),
    moment("updated_timestamp", now=True),
    PrimaryKeyConstraint("exchange", "symbol", "stream", "from_timestamp"),
    CheckConstraint("from_timestamp <= to_timestamp", name="span"),
)
# Half-open spans: two that touch do not overlap.
stream_coverage.append_constraint(
    ExcludeConstraint(
        (stream_coverage.c.exchange, "="),
        (stream_coverage.c.symbol, "="),
        (stream_coverage.c.stream, "="),
        (
            func.tstzrange(stream_coverage.c.from_timestamp, stream_coverage.c.to_timestamp, text("'[)'")),
            "&&",
        ),
        name="stream_coverage_overlap_excl",
        using="gist",
    )
)

stream_gaps = Table(
    "stream_gaps",
    metadata,
    number(),
    words("exchange"),
    words("symbol"),
    one_of("stream", STREAMS),
    words("from_id", null=True),
    words("to_id", null=True),
    moment("from_timestamp"),
    moment("to_timestamp"),
    count("missing_count", null=True),
    moment("detected_timestamp", now=True),
    words("cause"),
    one_of("status", ("suspected", "confirmed", "healed", "halt", "unhealable")),
    words("proof"),
    moment("healed_timestamp", null=True),
    count("healed_count", null=True),
    words("note", null=True),
    CheckConstraint("from_timestamp <= to_timestamp", name="span"),
    Index(
        "stream_gaps_open_idx",
        "exchange",
        "symbol",
        "stream",
        postgresql_where=text("status IN ('suspected', 'confirmed')"),
    ),
)

tape_revisions = Table(
    "tape_revisions",
    metadata,
    number(),
    words("exchange"),
    words("symbol"),
    moment("from_timestamp"),
    moment("to_timestamp"),
    one_of("cause", ("healed", "late_trade", "import", "repair")),
    moment("created_timestamp", now=True),
    CheckConstraint("from_timestamp <= to_timestamp", name="span"),
    Index("tape_revisions_exchange_symbol_id_idx", "exchange", "symbol", "id"),
)

rejected_messages = Table(
    "rejected_messages",
    metadata,
    number(),
    moment("timestamp"),
    words("exchange"),
    words("stream", null=True),
    words("reason"),
    Column("raw", LargeBinary, CheckConstraint("octet_length(raw) <= 4096", name="raw"), nullable=False),
)

past_days = Table(
    "past_days",
    metadata,
    words("exchange"),
    words("symbol"),
    one_of("table_name", ("trades", "orderbook_snapshots", "cvd_snapshots", "candles")),
    words("interval", default=""),
    moment("day"),
    count("row_count"),
    document("coverage", default="[]"),
    words("url", null=True),
    words("digest", null=True),
    document("fingerprint", null=True),
    count("bytes", null=True),
    big("revision", null=True),
    moment("copied_timestamp", null=True),
    moment("dropped_timestamp", null=True),
    PrimaryKeyConstraint("exchange", "symbol", "table_name", "interval", "day"),
    CheckConstraint("(interval <> '') = (table_name = 'candles')", name="interval"),
    CheckConstraint(
        "num_nulls(url, digest, fingerprint, bytes, revision, copied_timestamp) IN (0, 6)", name="copy"
    ),
    CheckConstraint("url IS NOT NULL OR dropped_timestamp IS NOT NULL", name="place"),
)
