"""Market data: what exchanges said, and what follows from it. All but the instruments are hypertables."""

from sqlalchemy import CheckConstraint, Column, Index, PrimaryKeyConstraint, Table

from market import MarketType, Side, Timeframe
from storage.tables.columns import (
    amount,
    between,
    big,
    count,
    document,
    exact_px,
    finite,
    flag,
    metadata,
    moment,
    number,
    one_of,
    px,
    words,
)

instruments = Table(
    "instruments",
    metadata,
    words("exchange"),
    words("symbol"),
    words("exchange_symbol"),
    one_of("market_type", MarketType),
    words("base"),
    words("quote"),
    moment("expiry_timestamp", null=True),
    exact_px("tick_size", null=True),
    exact_px("lot_size", null=True),
    exact_px("contract_size", null=True),
    exact_px("min_notional", null=True),
    flag("is_active"),
    moment("listed_timestamp", null=True),
    moment("delisted_timestamp", null=True),
    flag("trade_ids_consecutive"),
    document("metadata", default="{}"),
    moment("updated_timestamp", now=True),
    PrimaryKeyConstraint("exchange", "symbol"),
)

instrument_changes = Table(
    "instrument_changes",
    metadata,
    number(),
    moment("timestamp"),
    words("exchange"),
    words("symbol"),
    words("field"),
    words("old_value", null=True),
    words("new_value", null=True),
    Index("instrument_changes_instrument_idx", "exchange", "symbol", "timestamp"),
)

trades = Table(
    "trades",
    metadata,
    moment("timestamp"),
    words("exchange"),
    words("symbol"),
    words("trade_id"),
    big("trade_seq"),
    count("fill_count", default="1"),
    px("price"),
    px("size"),
    one_of("side", Side, null=True),
    finite("cvd_at_trade"),
    moment("received_timestamp", null=True),
    PrimaryKeyConstraint("exchange", "symbol", "timestamp", "trade_id"),
)

orderbook_snapshots = Table(
    "orderbook_snapshots",
    metadata,
    moment("timestamp"),
    words("exchange"),
    words("symbol"),
    px("best_bid"),
    px("best_ask"),
    px("mid"),
    finite("spread"),
    finite("spread_bps"),
    amount("bid_volume"),
    amount("ask_volume"),
    between("imbalance", -100, 100),
    count("depth"),
    document("bids_json"),
    document("asks_json"),
    big("sequence", null=True),
    PrimaryKeyConstraint("exchange", "symbol", "timestamp"),
)

candles = Table(
    "candles",
    metadata,
    moment("timestamp"),
    words("exchange"),
    words("symbol"),
    one_of("interval", Timeframe),
    px("open"),
    px("high"),
    px("low"),
    px("close"),
    amount("volume"),
    amount("buy_volume", null=True),
    amount("sell_volume", null=True),
    px("vwap", null=True),
    count("trade_count", null=True),
    finite("cvd_close", null=True),
    between("imbalance_mean", -100, 100, null=True),
    between("imbalance_last", -100, 100, null=True),
    finite("spread_bps_mean", null=True),
    count("snapshot_count", null=True),
    flag("is_closed"),
    flag("is_whole"),
    count("revised", default="0"),
    one_of("source", ("trades", "exchange", "import")),
    PrimaryKeyConstraint("exchange", "symbol", "interval", "timestamp"),
    CheckConstraint("low <= open AND low <= close AND open <= high AND close <= high", name="range"),
    CheckConstraint(
        "source <> 'trades' OR (buy_volume IS NOT NULL AND sell_volume IS NOT NULL"
        " AND trade_count IS NOT NULL AND cvd_close IS NOT NULL"
        " AND (vwap IS NOT NULL) = (trade_count > 0))",
        name="from_trades",
    ),
)

cvd_snapshots = Table(
    "cvd_snapshots",
    metadata,
    moment("timestamp"),
    words("exchange"),
    words("symbol"),
    finite("cvd"),
    finite("cvd_change"),
    finite("cvd_ma_5", null=True),
    finite("cvd_ma_20", null=True),
    moment("anchor_timestamp"),
    PrimaryKeyConstraint("exchange", "symbol", "timestamp"),
)

funding_rates = Table(
    "funding_rates",
    metadata,
    moment("timestamp"),
    words("exchange"),
    words("symbol"),
    finite("rate"),
    px("mark_price", null=True),
    PrimaryKeyConstraint("exchange", "symbol", "timestamp"),
)


def _newest_first(table: Table, *columns: Column[str]) -> None:
    """Index what the newest row of an exchange is asked by, whatever the symbol."""
    names = "_".join(column.name for column in columns)
    Index(f"{table.name}_{names}_timestamp_idx", *columns, table.c.timestamp.desc())


_newest_first(orderbook_snapshots, orderbook_snapshots.c.exchange)
_newest_first(candles, candles.c.exchange, candles.c.interval)
_newest_first(cvd_snapshots, cvd_snapshots.c.exchange)
