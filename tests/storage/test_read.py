from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from market.errors import Unavailable, WrongUse
from storage import read
from storage.database import Connection
from storage.tables import metadata
from storage.tables.backtests import RESULTS

T = datetime(2026, 3, 1, tzinfo=UTC)
T_US = 1_772_323_200_000_000
MOMENT = pl.Datetime("us", "UTC")
RUN = UUID("00000000-0000-0000-0000-00000000000a")


@pytest.fixture
def tape(connection: Connection) -> Connection:
    """Ten trades of BTC/USDT, two a second and across chunks, stored in no order; one of ETH/USDT."""
    for i in (3, 1, 4, 0, 5, 9, 2, 6, 8, 7):
        add_trade(connection, "BTC/USDT", T + timedelta(hours=8 * (i // 2)), str(10 - i), i)
    add_trade(connection, "ETH/USDT", T, "1", 1)
    connection.commit()
    return connection


def add_trade(connection: Connection, symbol: str, at: datetime, ident: str, seq: int) -> None:
    connection.execute(
        "INSERT INTO trades VALUES (%s, 'binance', %s, %s, %s, 1, %s, 0.1, NULL, -0.5, NULL)",
        (at, symbol, ident, seq, 100.1 + seq),
    )


def numbers(frame: pl.DataFrame) -> list[int]:
    return frame["trade_seq"].to_list()


def test_trades_come_in_tape_order(tape: Connection, database: str) -> None:
    frame = read.trades(database, "binance", "BTC/USDT")
    assert numbers(frame) == list(range(10))
    assert frame["price"].to_list() == [100.1 + i for i in range(10)]
    assert frame.row(3, named=True) == {
        "timestamp": T + timedelta(hours=8),
        "exchange": "binance",
        "symbol": "BTC/USDT",
        "trade_id": "7",
        "trade_seq": 3,
        "fill_count": 1,
        "price": 103.1,
        "size": 0.1,
        "side": None,
        "cvd_at_trade": -0.5,
        "received_timestamp": None,
    }


SPANS: list[tuple[int | str | None, int | str | None, int | None, range]] = [
    ("2026-03-01T08:00:00Z", None, None, range(2, 10)),
    (None, "2026-03-01T08:00:00Z", None, range(2)),
    (T_US + 8 * 3_600_000_000, T_US + 8 * 3_600_000_001, None, range(2, 4)),
    ("2026-03-02", "2026-03-02T00:00:00.000001", None, range(6, 8)),
    ("2026-03-01T08:00:00.000001Z", "2026-03-01T16:00:00Z", None, range(0)),
    (None, None, 3, range(7, 10)),
    (None, "2026-03-02", 3, range(3, 6)),
    ("2026-03-02", None, 100, range(6, 10)),
]


def test_spans_are_half_open_and_limits_keep_the_newest(tape: Connection, database: str) -> None:
    for start, end, limit, expected in SPANS:
        frame = read.trades(database, "binance", "BTC/USDT", start, end, limit)
        assert numbers(frame) == [*expected], (start, end, limit)


def test_names_are_bound_never_pasted(tape: Connection, database: str) -> None:
    for name in ("x' OR 'x' = 'x", "'; DROP TABLE trades; --", "$1", "%s", ":exchange", "", "é'\\"):
        assert read.trades(database, name, "BTC/USDT").is_empty()
        assert read.trades(database, "binance", name).is_empty()
    add_trade(tape, "O'HARA/USDT", T, "1", 77)
    tape.commit()
    assert numbers(read.trades(database, "binance", "O'HARA/USDT")) == [77]


def add_candle(connection: Connection, minute: int, interval: str, *, closed: bool) -> None:
    connection.execute(
        "INSERT INTO candles (timestamp, exchange, symbol, interval, open, high, low, close, volume,"
        " is_closed, is_whole, source)"
        " VALUES (%s, 'binance', 'BTC/USDT', %s, 1, 4, 1, 3, 9, %s, true, 'exchange')",
        (T + timedelta(minutes=minute), interval, closed),
    )


def test_candles_of_one_timeframe_and_the_open_one_on_request(connection: Connection, database: str) -> None:
    for minute in range(3):
        add_candle(connection, minute, "1m", closed=minute < 2)
    add_candle(connection, 0, "5m", closed=False)
    connection.commit()
    closed = read.candles(database, "binance", "BTC/USDT", "1m")
    assert closed["timestamp"].to_list() == [T, T + timedelta(minutes=1)]
    everything = read.candles(database, "binance", "BTC/USDT", "1m", closed_only=False)
    assert everything["is_closed"].to_list() == [True, True, False]
    assert everything["buy_volume"].to_list() == [None] * 3
    assert read.candles(database, "binance", "BTC/USDT", "5m").is_empty()


def test_books_and_cvd(connection: Connection, database: str) -> None:
    connection.execute(
        "INSERT INTO orderbook_snapshots VALUES"
        " (%s, 'kraken', 'BTC/USD', 1, 3, 2, 2, 10000, 1, 1, 0, 1, '[[1.0, 1.5]]', '[[3.0, 1]]', 7)",
        (T,),
    )
    connection.execute(
        "INSERT INTO cvd_snapshots VALUES (%s, 'kraken', 'BTC/USD', 1.5, 0.5, NULL, NULL, %s)", (T, T)
    )
    connection.commit()
    book = read.books(database, "kraken", "BTC/USD").row(0, named=True)
    assert (book["bids_json"], book["sequence"]) == ("[[1.0, 1.5]]", 7)
    assert read.cvd(database, "kraken", "BTC/USD")["cvd"].to_list() == [1.5]


def add_signal(
    connection: Connection, minute: int, revision: int, kind: str, *, withdrawn: bool = False
) -> None:
    connection.execute(
        "INSERT INTO signals (timestamp, exchange, symbol, interval, strategy_name, config_hash,"
        " revision, is_withdrawn, signal_type, confidence_score, confidence_level, score, price,"
        " reasons, indicators)"
        " VALUES (%s, 'binance', 'BTC/USDT', '1m', 'composite', 'c', %s, %s, %s, 60, 'LOW', 0.6,"
        """ 100, '{"RSI 25","CVD up"}', '{"rsi_14": 25.5}')""",
        (T + timedelta(minutes=minute), revision, withdrawn, kind),
    )


def test_signals_are_what_todays_tape_says(connection: Connection, database: str) -> None:
    add_signal(connection, 0, 0, "BUY")
    add_signal(connection, 0, 1, "SELL")
    add_signal(connection, 1, 0, "NEUTRAL")
    add_signal(connection, 1, 1, "NEUTRAL", withdrawn=True)
    add_signal(connection, 2, 0, "STRONG_SELL")
    connection.commit()
    frame = read.signals(database)
    assert frame["signal_type"].to_list() == ["SELL", "STRONG_SELL"]
    assert frame["reasons"].to_list() == [["RSI 25", "CVD up"]] * 2
    assert frame["indicators"].to_list() == ['{"rsi_14": 25.5}'] * 2
    assert read.signals(database, every_revision=True).height == 5
    assert read.signals(database, "binance", "BTC/USDT", "1m", "composite", limit=1).height == 1
    assert read.signals(database, timeframe="5m").is_empty()
    assert read.signals(database, strategy="other").is_empty()


def add_run(connection: Connection, run: UUID, strategy: str, minute: int) -> None:
    row = {
        "backtest_id": run,
        "strategy_name": strategy,
        "strategy_config": '{"fast": 20}',
        "exchange": "binance",
        "symbols": ["BTC/USDT"],
        "interval": "1m",
        "market_type": "spot",
        "start_date": T,
        "end_date": T,
        "initial_capital": "10000.25",
        "status": "completed",
        **dict.fromkeys(RESULTS, 0),
        "total_pnl": "-0.0000000001",
        "daily_returns": [0.5, -0.25],
        "data_fingerprint": "f",
        "code_version": "0",
        "machine": "m",
        "seed": 0,
        "run_timestamp": T + timedelta(minutes=minute),
    }
    statement = f"INSERT INTO backtest_runs ({', '.join(row)}) VALUES ({', '.join(['%s'] * len(row))})"
    connection.execute(statement.encode(), list(row.values()))


def test_runs_and_their_equity(connection: Connection, database: str) -> None:
    add_run(connection, uuid4(), "other", 1)
    add_run(connection, RUN, "composite", 0)
    connection.execute(
        "INSERT INTO backtest_equity_curve VALUES (%s, %s, 10000.5, 9000, 1000.5, 0.25)", (RUN, T)
    )
    connection.commit()
    assert read.runs(database)["strategy_name"].to_list() == ["composite", "other"]
    assert read.runs(database, limit=1)["strategy_name"].to_list() == ["other"]
    assert read.runs(database, status="failed").is_empty()
    assert read.runs(database, sweep_id=RUN).is_empty()
    run = read.runs(database, strategy="composite").row(0, named=True)
    assert run["backtest_id"] == str(RUN)
    assert (run["initial_capital"], run["total_pnl"]) == (10_000.25, -1e-10)
    assert (run["daily_returns"], run["strategy_config"]) == ([0.5, -0.25], '{"fast": 20}')
    curve = read.equity(database, run["backtest_id"])
    assert curve.drop("backtest_id").rows() == [(T, 10_000.5, 9000.0, 1000.5, 0.25)]
    assert_frame_equal(read.equity(database, RUN), curve)
    assert read.equity(database, uuid4()).is_empty()


def test_coverage(connection: Connection, database: str) -> None:
    for stream, hour in (("trades", 2), ("trades", 0), ("book", 0)):
        start = T + timedelta(hours=hour)
        connection.execute(
            "INSERT INTO stream_coverage (exchange, symbol, stream, from_timestamp, to_timestamp,"
            " proof, origin, row_count) VALUES ('kraken', 'BTC/USD', %s, %s, %s, 'ids', 'live', 1)",
            (stream, start, start + timedelta(hours=1)),
        )
    connection.commit()
    frame = read.coverage(database, "kraken", "BTC/USD", "trades")
    assert frame["from_timestamp"].to_list() == [T, T + timedelta(hours=2)]
    assert read.coverage(database)["stream"].to_list() == ["book", "trades", "trades"]
    assert read.coverage(database, symbol="ETH/USD").is_empty()
    reaching = read.coverage(database, start="2026-03-01T00:30:00Z", end="2026-03-01T02:00:00Z")
    assert reaching["stream"].to_list() == ["book", "trades"]


def test_indicators(connection: Connection, database: str) -> None:
    for name, minute, value in (("RSI_14", 0, 50.5), ("EMA_20", 0, None), ("RSI_14", 1, 51.0)):
        connection.execute(
            "INSERT INTO indicators (timestamp, exchange, symbol, interval, name, value)"
            " VALUES (%s, 'kraken', 'BTC/USD', '1m', %s, %s)",
            (T + timedelta(minutes=minute), name, value),
        )
    connection.commit()
    every = read.indicators(database, "kraken", "BTC/USD", "1m")
    assert every.select("name", "value").rows() == [("EMA_20", None), ("RSI_14", 50.5), ("RSI_14", 51.0)]
    assert read.indicators(database, "kraken", "BTC/USD", "1m", "RSI_14", limit=1)["value"].to_list() == [
        51.0
    ]
    assert read.indicators(database, "kraken", "BTC/USD", "5m").is_empty()


def test_empty_frames_have_the_tables_columns_and_types(database: str) -> None:
    frames = {
        "trades": read.trades(database, "no", "NO/NO"),
        "candles": read.candles(database, "no", "NO/NO", "1d", limit=5),
        "cvd_snapshots": read.cvd(database, "no", "NO/NO"),
        "orderbook_snapshots": read.books(database, "no", "NO/NO"),
        "indicators": read.indicators(database, "no", "NO/NO", "1h"),
        "signals": read.signals(database),
        "backtest_runs": read.runs(database),
        "backtest_equity_curve": read.equity(database, RUN),
        "stream_coverage": read.coverage(database),
    }
    kinds = {
        "DATETIME": MOMENT,
        "TEXT": pl.String,
        "JSONB": pl.String,
        "UUID": pl.String,
        "DOUBLE": pl.Float64,
        "NUMERIC(28, 10)": pl.Float64,
        "BIGINT": pl.Int64,
        "INTEGER": pl.Int32,
        "BOOLEAN": pl.Boolean,
    }
    for name, frame in frames.items():
        columns = metadata.tables[name].c
        assert frame.is_empty()
        assert frame.columns == columns.keys()
        for column in columns:
            expected = kinds.get(str(column.type))
            assert expected is None or frame.schema[column.name] == expected, column


def test_what_cannot_be_meant_is_wrong_use(database: str) -> None:
    with pytest.raises(WrongUse, match="not a time"):
        read.trades(database, "binance", "BTC/USDT", "yesterday")
    with pytest.raises(WrongUse, match="limit must be 1 or more"):
        read.trades(database, "binance", "BTC/USDT", limit=0)
    with pytest.raises(WrongUse, match="unknown timeframe"):
        read.candles(database, "binance", "BTC/USDT", "2s")
    with pytest.raises(WrongUse, match="not the id of a run"):
        read.equity(database, "best")
    with pytest.raises(WrongUse, match="not a PostgreSQL URL"):
        read.coverage("nowhere")


def test_what_is_missing_is_unavailable(empty_database: str) -> None:
    with pytest.raises(Unavailable, match="run: deltatape db upgrade"):
        read.trades(empty_database, "binance", "BTC/USDT")
    with pytest.raises(Unavailable, match=r"cannot connect to database x at 127\.0\.0\.1"):
        read.trades("postgresql://127.0.0.1:1/x", "binance", "BTC/USDT")
