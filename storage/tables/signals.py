"""Signals, what they were computed from and what became of them."""

from sqlalchemy import (
    BigInteger,
    Column,
    ForeignKey,
    Interval,
    PrimaryKeyConstraint,
    Table,
    UniqueConstraint,
)

from market import Timeframe
from storage.tables.columns import (
    between,
    big,
    count,
    document,
    finite,
    flag,
    metadata,
    moment,
    number,
    one_of,
    px,
    word_list,
    words,
)

SIGNAL_TYPES = ("STRONG_BUY", "BUY", "NEUTRAL", "SELL", "STRONG_SELL")

indicators = Table(
    "indicators",
    metadata,
    moment("timestamp"),
    words("exchange"),
    words("symbol"),
    one_of("interval", Timeframe),
    words("name"),
    finite("value", null=True),
    document("metadata", default="{}"),
    PrimaryKeyConstraint("exchange", "symbol", "interval", "name", "timestamp"),
)

calibrations = Table(
    "calibrations",
    metadata,
    number(),
    words("strategy_name"),
    words("config_hash"),
    moment("cutoff_timestamp"),
    moment("window_from"),
    document("bins"),
    count("sample_count"),
    moment("created_timestamp", now=True),
    words("exchange"),
    words("symbol"),
    one_of("interval", Timeframe),
    Column("horizon", Interval, nullable=False),
    UniqueConstraint(
        "strategy_name",
        "config_hash",
        "exchange",
        "symbol",
        "interval",
        "horizon",
        "cutoff_timestamp",
        name="calibrations_cut_key",
    ),
)

signals = Table(
    "signals",
    metadata,
    number(),
    moment("timestamp"),
    words("exchange"),
    words("symbol"),
    one_of("interval", Timeframe),
    words("strategy_name"),
    words("config_hash"),
    count("revision", default="0"),
    flag("is_withdrawn", default="false"),
    one_of("signal_type", SIGNAL_TYPES),
    between("confidence_score", 0, 100),
    one_of("confidence_level", ("LOW", "MEDIUM", "HIGH")),
    Column("calibration_id", BigInteger, ForeignKey(calibrations.c.id)),
    between("score", -1, 1),
    px("price"),
    finite("cvd", null=True),
    between("orderbook_imbalance", -100, 100, null=True),
    word_list("reasons", default="{}"),
    word_list("warnings", default="{}"),
    document("indicators", default="{}"),
    document("metadata", default="{}"),
    moment("created_timestamp", now=True),
    UniqueConstraint(
        "strategy_name",
        "config_hash",
        "exchange",
        "symbol",
        "interval",
        "timestamp",
        "revision",
        name="signals_revision_key",
    ),
)

signal_state = Table(
    "signal_state",
    metadata,
    words("strategy_name"),
    words("config_hash"),
    words("exchange"),
    words("symbol"),
    one_of("interval", Timeframe),
    moment("candle_watermark"),
    big("revision_watermark"),
    one_of("last_type", SIGNAL_TYPES),
    moment("updated_timestamp", now=True),
    moment("settled_watermark"),
    PrimaryKeyConstraint("strategy_name", "config_hash", "exchange", "symbol", "interval"),
)

signal_outcomes = Table(
    "signal_outcomes",
    metadata,
    Column("signal_id", BigInteger, ForeignKey(signals.c.id, ondelete="CASCADE"), nullable=False),
    Column("horizon", Interval, nullable=False),
    moment("outcome_timestamp"),
    finite("return_net"),
    flag("is_right"),
    PrimaryKeyConstraint("signal_id", "horizon"),
)
