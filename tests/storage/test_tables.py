from itertools import product
from typing import Any
from uuid import UUID

import psycopg
import pytest
from psycopg import errors

from storage.database import Connection
from storage.tables import metadata
from storage.tables.backtests import RESULTS

# A valid row of each table, which the tests bend column by column.
NOON = "2026-03-01 12:00:00+00"
RUN = UUID("00000000-0000-0000-0000-000000000001")
INSTRUMENT = {"exchange": "coinbase", "symbol": "BTC/USD"}
AT = {"timestamp": NOON, **INSTRUMENT}

ROWS: dict[str, dict[str, Any]] = {
    "instruments": {
        **INSTRUMENT,
        "exchange_symbol": "BTC-USD",
        "market_type": "spot",
        "base": "BTC",
        "quote": "USD",
        "tick_size": "0.01",
        "is_active": True,
        "trade_ids_consecutive": True,
    },
    "trades": {
        **AT,
        "trade_id": "1",
        "trade_seq": 1,
        "price": 65000.5,
        "size": 0.01,
        "side": "buy",
        "cvd_at_trade": 0.01,
    },
    "orderbook_snapshots": {
        **AT,
        "best_bid": 1.0,
        "best_ask": 3.0,
        "mid": 2.0,
        "spread": 2.0,
        "spread_bps": 10_000.0,
        "bid_volume": 1.0,
        "ask_volume": 1.0,
        "imbalance": 0.0,
        "depth": 10,
        "bids_json": "[[1.0, 1.0]]",
        "asks_json": "[[3.0, 1.0]]",
    },
    "candles": {
        **AT,
        "interval": "1m",
        "open": 2.0,
        "high": 4.0,
        "low": 1.0,
        "close": 3.0,
        "volume": 5.0,
        "buy_volume": 3.0,
        "sell_volume": 2.0,
        "vwap": 2.5,
        "trade_count": 7,
        "cvd_close": 1.0,
        "is_closed": True,
        "is_whole": True,
        "source": "trades",
    },
    "cvd_snapshots": {**AT, "cvd": 1.5, "cvd_change": -0.5, "anchor_timestamp": NOON},
    "funding_rates": {**AT, "rate": -0.0001},
    "stream_coverage": {
        **INSTRUMENT,
        "stream": "trades",
        "from_timestamp": NOON,
        "to_timestamp": "2026-03-01 13:00:00+00",
        "proof": "ids",
        "origin": "live",
        "row_count": 10,
    },
    "stream_gaps": {
        **INSTRUMENT,
        "stream": "trades",
        "from_timestamp": NOON,
        "to_timestamp": NOON,
        "cause": "disconnect",
        "status": "suspected",
        "proof": "connection",
    },
    "stream_state": {
        **INSTRUMENT,
        "stream": "trades",
        "watermark": "17",
        "watermark_timestamp": NOON,
        "epoch": 1,
        "status": "live",
    },
    "tape_revisions": {
        **INSTRUMENT,
        "from_timestamp": NOON,
        "to_timestamp": NOON,
        "cause": "healed",
    },
    "alert_mutes": {"channel": "phone", "until_timestamp": NOON},
    "channel_calls": {"place": "telegram:7", "began_timestamp": NOON},
    "chat_watches": {"chat_id": -7, "exchange": "kraken", "symbol": "BTC/USD"},
    "compressions": {
        "table_name": "trades",
        "chunk_name": "_timescaledb_internal._hyper_1_1_chunk",
        "from_timestamp": NOON,
        "to_timestamp": NOON,
        "outcome": "compressed",
        "row_count": 10,
        "bytes_before": 2000,
        "bytes_after": 200,
    },
    "past_days": {
        **INSTRUMENT,
        "table_name": "trades",
        "day": NOON,
        "row_count": 9,
        "dropped_timestamp": NOON,
    },
    "rejected_messages": {"timestamp": NOON, "exchange": "kraken", "reason": "no", "raw": b"{"},
    "indicators": {**AT, "interval": "1m", "name": "rsi_14", "value": 50.0},
    "signals": {
        **AT,
        "interval": "1m",
        "strategy_name": "composite",
        "config_hash": "c0ffee",
        "signal_type": "BUY",
        "confidence_score": 60.0,
        "confidence_level": "LOW",
        "score": 0.6,
        "price": 65000.0,
    },
    "backtest_runs": {
        "backtest_id": RUN,
        "strategy_name": "composite",
        "strategy_config": "{}",
        "exchange": "coinbase",
        "symbols": ["BTC/USD"],
        "interval": "1m",
        "market_type": "spot",
        "start_date": NOON,
        "end_date": NOON,
        "initial_capital": 10_000,
        "status": "completed",
        **dict.fromkeys(RESULTS, 0),
        "data_fingerprint": "f",
        "code_version": "0.1.0",
        "machine": "x86_64",
        "seed": 1,
    },
    "backtest_equity_curve": {
        "backtest_id": RUN,
        "timestamp": NOON,
        "equity": 10_000,
        "cash": 10_000,
        "position_value": 0,
        "drawdown": 0.0,
    },
    "positions": {
        **INSTRUMENT,
        "side": "long",
        "status": "closed",
        "entry_timestamp": NOON,
        "entry_price": "65000",
        "quantity": "0.1",
        "exit_timestamp": NOON,
        "exit_price": "65100",
        "exit_reason": "signal",
        "fees": "1.5",
        "gross_pnl": "10",
        "pnl": "8.5",
        "pnl_pct": 0.13,
        "is_backtest": False,
    },
    "fills": {
        **AT,
        "side": "buy",
        "price": "65000",
        "quantity": "0.1",
        "fee": "1.5",
        "fee_asset": "USD",
        "liquidity": "taker",
        "order_type": "market",
        "reason": "signal",
        "source": "next_open",
    },
    "sweeps": {
        "id": RUN,
        "name": "first",
        "definition": "{}",
        "status": "running",
        "total_runs": 4,
        "started_timestamp": NOON,
    },
    "system_metrics": {
        "timestamp": NOON,
        "component": "collector",
        "metric": "trades_per_second",
        "value": 12.5,
    },
    "alerts": {
        "timestamp": NOON,
        "alert_type": "signal_generated",
        "severity": "info",
        "title": "BUY",
        "message": "why",
        "channel": "console",
        "dedupe_key": "k",
    },
}


def insert(connection: Connection, table: str, **changes: Any) -> None:
    """Insert the valid row of `table` with `changes` made to it."""
    row = {**ROWS[table], **changes}
    names = ", ".join(metadata.tables[table].c[name].name for name in row)
    places = ", ".join(["%s"] * len(row))
    statement = f"INSERT INTO {table} ({names}) VALUES ({places})"
    connection.execute(statement.encode(), list(row.values()))


def refuse(connection: Connection, kind: type[psycopg.Error], table: str, **changes: Any) -> None:
    """Check that the valid row of `table` is refused once `changes` are made to it."""
    with pytest.raises(kind), connection.transaction():
        insert(connection, table, **changes)


def columns(*kinds: str) -> list[tuple[str, str]]:
    """The (table, column) of our rows whose SQL type is among `kinds`."""
    return [
        (table, column.name)
        for table in ROWS
        for column in metadata.tables[table].c
        if str(column.type) in kinds
    ]


def test_a_valid_row_is_taken(connection: Connection) -> None:
    for table in ROWS:
        insert(connection, table)


def test_no_double_takes_what_is_not_finite(connection: Connection) -> None:
    found = columns("DOUBLE")
    assert len(found) > 40
    for (table, column), value in product(found, ("NaN", "Infinity", "-Infinity")):
        refuse(connection, errors.CheckViolation, table, **{column: float(value)})


def test_no_money_takes_nan(connection: Connection) -> None:
    found = columns("NUMERIC(28, 10)")
    assert len(found) > 25
    for table, column in found:
        refuse(connection, errors.CheckViolation, table, **{column: "NaN"})


PRICES = {
    "trades": ["price", "size"],
    "orderbook_snapshots": ["best_bid", "best_ask", "mid"],
    "candles": ["open", "high", "low", "close"],
    "instruments": ["tick_size", "lot_size", "contract_size"],
    "funding_rates": ["mark_price"],
    "signals": ["price"],
    "positions": ["entry_price", "quantity"],
    "fills": ["price", "quantity"],
}


def test_prices_and_sizes_are_above_zero(connection: Connection) -> None:
    for table, names in PRICES.items():
        for name, value in product(names, (0, -1)):
            refuse(connection, errors.CheckViolation, table, **{name: value})


CLOSED = {
    "instruments": {"market_type": "option"},
    "trades": {"side": "BUY"},
    "candles": {"interval": "2m", "source": "guess"},
    "stream_coverage": {"stream": "ticker", "proof": "hope", "origin": "elsewhere"},
    "stream_gaps": {"stream": "ticker", "status": "open"},
    "stream_state": {"stream": "ticker", "status": "up"},
    "tape_revisions": {"cause": "whim"},
    "indicators": {"interval": "1M"},
    "signals": {"interval": "7m", "signal_type": "HOLD", "confidence_level": "low"},
    "backtest_runs": {"interval": "2h", "market_type": "swap", "status": "done", "split": "test"},
    "positions": {"side": "buy", "status": "exited"},
    "fills": {"side": "long", "liquidity": "both", "source": "dream"},
    "sweeps": {"status": "done"},
    "alerts": {"severity": "fatal", "status": "queued"},
}


def test_closed_sets_are_closed(connection: Connection) -> None:
    for table, wrong in CLOSED.items():
        for column, value in wrong.items():
            refuse(connection, errors.CheckViolation, table, **{column: value})


def test_what_is_not_marked_optional_must_be_given(connection: Connection) -> None:
    for table, row in ROWS.items():
        for column in row:
            if not metadata.tables[table].c[column].nullable:
                refuse(connection, errors.NotNullViolation, table, **{column: None})


def test_a_candles_body_lies_within_its_range(connection: Connection) -> None:
    for column, wrong in (("open", 5.0), ("close", 0.5), ("high", 2.5), ("low", 2.5)):
        refuse(connection, errors.CheckViolation, "candles", **{column: wrong})


def test_a_candle_from_trades_has_what_trades_give(connection: Connection) -> None:
    for column in ("buy_volume", "sell_volume", "trade_count", "cvd_close", "vwap"):
        refuse(connection, errors.CheckViolation, "candles", **{column: None})
        insert(connection, "candles", source="exchange", **{column: None})
        connection.rollback()


def test_a_candle_without_trades_has_no_vwap(connection: Connection) -> None:
    refuse(connection, errors.CheckViolation, "candles", trade_count=0)
    insert(connection, "candles", trade_count=0, vwap=None)


def test_imbalance_is_a_percentage(connection: Connection) -> None:
    for value in (-100.1, 100.1):
        refuse(connection, errors.CheckViolation, "orderbook_snapshots", imbalance=value)


def test_a_trade_is_one_row(connection: Connection) -> None:
    insert(connection, "trades")
    refuse(connection, errors.UniqueViolation, "trades")
    insert(connection, "trades", trade_id="2")


SPANS = [
    ("12:30", "12:40", False),
    ("11:00", "12:00:00.000001", False),
    ("12:59:59.999999", "14:00", False),
    ("11:00", "14:00", False),
    ("11:00", "12:00", True),
    ("13:00", "14:00", True),
]


def test_spans_of_one_stream_never_overlap(connection: Connection) -> None:
    for start, end, is_taken in SPANS:
        span = {
            "from_timestamp": f"2026-03-01 {start}+00",
            "to_timestamp": f"2026-03-01 {end}+00",
        }
        insert(connection, "stream_coverage")
        insert(connection, "stream_coverage", stream="book", **span)
        insert(connection, "stream_coverage", symbol="ETH/USD", **span)
        if is_taken:
            insert(connection, "stream_coverage", **span)
        else:
            refuse(connection, errors.ExclusionViolation, "stream_coverage", **span)
        connection.rollback()


def test_a_span_does_not_end_before_it_begins(connection: Connection) -> None:
    early = "2026-03-01 11:00+00"
    for table in ("stream_coverage", "stream_gaps", "tape_revisions"):
        refuse(connection, errors.CheckViolation, table, to_timestamp=early)


def test_a_rejected_message_keeps_its_first_4_kb(connection: Connection) -> None:
    insert(connection, "rejected_messages", raw=b"x" * 4096)
    refuse(connection, errors.CheckViolation, "rejected_messages", raw=b"x" * 4097)


def test_labels_are_hashed_whatever_their_order(connection: Connection) -> None:
    insert(connection, "system_metrics", labels='{"a": 1, "b": 2}')
    refuse(connection, errors.UniqueViolation, "system_metrics", labels='{"b": 2, "a": 1}')
    insert(connection, "system_metrics", labels='{"a": 1}')


def test_a_signal_is_revised_beside_itself(connection: Connection) -> None:
    insert(connection, "signals")
    refuse(connection, errors.UniqueViolation, "signals")
    insert(connection, "signals", revision=1)


def test_ids_are_given_in_order(connection: Connection) -> None:
    for revision in range(3):
        insert(connection, "signals", revision=revision)
    rows = connection.execute("SELECT id FROM signals ORDER BY revision").fetchall()
    assert rows == [(1,), (2,), (3,)]


def test_one_alert_per_channel(connection: Connection) -> None:
    insert(connection, "alerts")
    refuse(connection, errors.UniqueViolation, "alerts")
    insert(connection, "alerts", channel="telegram")


def test_a_closed_position_has_an_exit(connection: Connection) -> None:
    for column in ("exit_timestamp", "exit_price", "exit_reason"):
        refuse(connection, errors.CheckViolation, "positions", **{column: None})
        insert(connection, "positions", status="open", **{column: None})


def test_an_exit_does_not_come_before_the_entry(connection: Connection) -> None:
    early = "2026-03-01 11:59:59.999999+00"
    refuse(connection, errors.CheckViolation, "positions", exit_timestamp=early)


def test_a_position_names_its_run_exactly_when_it_is_a_backtests(connection: Connection) -> None:
    insert(connection, "backtest_runs")
    refuse(connection, errors.CheckViolation, "positions", is_backtest=True)
    refuse(connection, errors.CheckViolation, "positions", backtest_id=RUN)
    insert(connection, "positions", is_backtest=True, backtest_id=RUN)
    insert(connection, "positions")
    for view in ("live_positions", "backtest_positions"):
        row = connection.execute(f"SELECT count(*) FROM {view}".encode()).fetchone()
        assert row == (1,)


def test_a_completed_run_has_every_result(connection: Connection) -> None:
    for column in RESULTS:
        refuse(connection, errors.CheckViolation, "backtest_runs", **{column: None})
    insert(connection, "backtest_runs", status="running", **dict.fromkeys(RESULTS))


def test_daily_returns_are_finite(connection: Connection) -> None:
    for value in (float("nan"), float("inf"), float("-inf"), None):
        refuse(connection, errors.CheckViolation, "backtest_runs", daily_returns=[0.1, value, 0.2])
    insert(connection, "backtest_runs", daily_returns=[0.1, -0.2])


def test_what_belongs_to_a_run_goes_with_it(connection: Connection) -> None:
    insert(connection, "sweeps")
    insert(connection, "backtest_runs", sweep_id=RUN)
    connection.execute("UPDATE sweeps SET best_backtest_id = %s", (RUN,))
    insert(connection, "backtest_equity_curve")
    insert(connection, "positions", id=5, is_backtest=True, backtest_id=RUN)
    insert(connection, "fills", backtest_id=RUN, position_id=5)
    insert(connection, "alerts", position_id=5)
    connection.execute("DELETE FROM backtest_runs")
    for table in ("backtest_equity_curve", "positions", "fills"):
        assert connection.execute(f"SELECT FROM {table}".encode()).fetchall() == []
    assert connection.execute("SELECT best_backtest_id FROM sweeps").fetchall() == [(None,)]
    assert connection.execute("SELECT position_id FROM alerts").fetchall() == [(None,)]


def test_a_sweep_takes_its_runs_along(connection: Connection) -> None:
    insert(connection, "sweeps")
    insert(connection, "backtest_runs", sweep_id=RUN)
    connection.execute("DELETE FROM sweeps")
    assert connection.execute("SELECT FROM backtest_runs").fetchall() == []


def test_a_signal_that_a_position_followed_stays(connection: Connection) -> None:
    insert(connection, "signals", id=1)
    insert(connection, "positions", signal_id=1)
    with pytest.raises(errors.ForeignKeyViolation):
        connection.execute("DELETE FROM signals")
