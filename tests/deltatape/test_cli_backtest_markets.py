"""`deltatape backtest run` over several instruments, contracts, stored trades, minutes, books, funding."""

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from backtest.history import run as stored_run
from backtest.strategies import names as strategies
from deltatape.cli.app import build
from market import Candle, Instrument, MarketType, Timeframe, WrongUse
from market.timeframe import to_datetime
from storage.check_money import MONEY
from storage.check_rule import ask
from storage.instruments import note_instruments
from storage.tape import write_candles

START = 1_767_225_600_000_000
HOUR = 3_600_000_000
RUN = ("backtest", "run", "--exchange", "binance", "--timeframe", "5m", "--strategy", "ema_cross")
SPOT = ("--symbol", "BTC/USDT")
SHORT = ("--param", "fast=5", "--param", "slow=15")


def walk(seed, count):
    random = np.random.default_rng(seed)
    close = 100.0 * np.exp(np.cumsum(random.normal(0, 0.004, count)))
    return np.r_[100.0, close[:-1]], close


def write(connection, exchange, symbol, seed, minutes=1_500):
    """A random walk of minutes, and the candles of five that they make."""
    opens, closes = walk(seed, minutes)
    high, low = np.maximum(opens, closes), np.minimum(opens, closes)
    for timeframe, step in ((Timeframe.M1, 1), (Timeframe.M5, 5)):
        rows = [
            Candle(
                symbol=symbol,
                timeframe=timeframe,
                timestamp=START + i * Timeframe.M1.microseconds,
                open=float(opens[i]),
                high=float(high[i : i + step].max()),
                low=float(low[i : i + step].min()),
                close=float(closes[i + step - 1]),
                volume=3.0 * step,
                buy_volume=2.0 * step,
                sell_volume=1.0 * step,
                is_closed=True,
                is_whole=True,
                source="import",
            )
            for i in range(0, minutes, step)
        ]
        write_candles(connection, exchange, rows)
    connection.commit()


@pytest.fixture
def command(database, monkeypatch, tmp_path):
    monkeypatch.setenv("DELTATAPE_DATABASE_URL", database)
    monkeypatch.setenv("DELTATAPE_HOME", str(tmp_path))

    def invoke(*words):
        return CliRunner().invoke(build(["backtest"]), words)

    return invoke


def done(command, *words):
    finished = command(*words, "--json")
    assert finished.exit_code == 0, finished.exception or finished.output
    return json.loads(finished.stdout)


def money_adds_up(connection):
    connection.rollback()
    return [rule.name for rule in MONEY if ask(connection, rule, {})[0]]


def test_instruments_that_share_the_cash(command, connection):
    write(connection, "binance", "BTC/USDT", 1)
    write(connection, "binance", "ETH/USDT", 2)
    run = done(command, *RUN, "--symbol", "ETH/USDT", *SPOT, *SHORT, "--stop", "0.005", "--target", "0.005")
    assert run["symbols"] == ["BTC/USDT", "ETH/USDT"]
    assert run["strategy_config"]["policy"]["fraction"] == 0.5
    assert run["strategy_config"]["sources"]["fees"] == "binance spot, base tier"
    rows = connection.execute("SELECT DISTINCT symbol FROM positions ORDER BY symbol").fetchall()
    assert rows == [("BTC/USDT",), ("ETH/USDT",)]
    # Where a candle did not say what came first its minutes did.
    assert run["engine_stats"]["fills_by_source"]["lower_timeframe"] > 0
    (_, fed), *_ = [each for each in run["engine_stats"]["fed"] if each[0] == "finer candles"]
    assert 0 < int(fed.rpartition(" ")[2].replace(",", "")) < 1_500
    assert money_adds_up(connection) == []
    again = command("backtest", "reproduce", run["backtest_id"])
    assert again.exit_code == 0, again.output
    assert "bit by bit" in again.output
    page = command("backtest", "report", run["backtest_id"])
    assert page.exit_code == 0, page.exception
    text = command("backtest", "show", run["backtest_id"][:8]).output
    assert "at the next event" in text
    plain = done(command, *RUN, *SPOT, *SHORT, "--stop", "0.005", "--target", "0.005", "--inside", "candles")
    assert "candle_pessimistic" in plain["engine_stats"]["fills_by_source"]


def test_a_contract_with_leverage_and_funding(command, connection):
    swap = "BTC/USDT:USDT"
    write(connection, "binanceusdm", swap, 3)
    connection.execute(
        "INSERT INTO funding_rates SELECT t, 'binanceusdm', %s, 0.0005, NULL"
        " FROM generate_series(%s::timestamptz, %s, '1 hour') AS t",
        (swap, to_datetime(START), to_datetime(START + 24 * HOUR)),
    )
    connection.commit()
    words = ("backtest", "run", "--exchange", "binanceusdm", "--symbol", swap, "--timeframe", "5m")
    words += ("--strategy", "ema_cross", *SHORT, "--leverage", "3", "--shorts", "--latency", "50")
    run = done(command, *words)
    assert run["market_type"] == "linear"
    assert run["strategy_config"]["account"]["fee_bps"] == 5.0
    assert run["strategy_config"]["account"]["maintenance"] == pytest.approx(1 / 6)
    assert run["engine_stats"]["funding"] != 0
    (funding, pnl) = connection.execute("SELECT sum(funding), sum(pnl) FROM positions").fetchone()
    assert float(funding) == pytest.approx(run["engine_stats"]["funding"], abs=1e-6)
    assert float(pnl) == pytest.approx(float(run["total_pnl"]), abs=1e-6)
    assert money_adds_up(connection) == []
    assert command("backtest", "reproduce", run["backtest_id"]).exit_code == 0
    free = done(command, *words, "--no-funding")
    assert "funding" not in free["engine_stats"]


def test_stored_trades_steps_and_recorded_lags(command, connection):
    write(connection, "binance", "BTC/USDT", 4, minutes=300)
    note_instruments(
        connection,
        [
            Instrument(
                exchange="binance",
                symbol="BTC/USDT",
                exchange_symbol="BTCUSDT",
                base="BTC",
                quote="USDT",
                tick_size="0.01",
                lot_size="0.001",
            )
        ],
    )
    opens, _ = walk(4, 300)
    rows = [
        (
            to_datetime(START + i * 60_000_000),
            str(i),
            i,
            float(price),
            to_datetime(START + i * 60_000_000 + 30_000),
        )
        for i, price in enumerate(opens)
    ]
    with connection.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO trades (timestamp, exchange, symbol, trade_id, trade_seq, fill_count, price, size,"
            " side, cvd_at_trade, received_timestamp)"
            " VALUES (%s, 'binance', 'BTC/USDT', %s, %s, 1, %s, 1, 'buy', 0, %s)",
            rows,
        )
    connection.execute("UPDATE instruments SET tick_size = 0.01, lot_size = 0.001")
    connection.commit()
    run = done(command, *RUN, *SPOT, *SHORT, "--inside", "trades", "--latency", "recorded", "--seed", "7")
    assert set(run["strategy_config"]["account"]["lags"]) == {30_000}
    assert run["seed"] == 7
    assert run["strategy_config"]["sources"]["terms"] == {"BTC/USDT": {"lot": 0.001, "tick": 0.01}}
    quantities = connection.execute("SELECT DISTINCT scale(trim_scale(quantity)) <= 3 FROM fills").fetchall()
    assert quantities == [(True,)]
    row = stored_run(connection, run["backtest_id"])
    assert ["trades", "300"] in row["engine_stats"]["fed"]
    assert command("backtest", "reproduce", run["backtest_id"]).exit_code == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((*SPOT, *SPOT), "given twice"),
        ((*SPOT, "--slippage", "walk"), "no order books of BTC/USDT on binance are stored"),
        ((*SPOT, "--slippage", "some"), "fixed:BPS"),
        ((*SPOT, "--slippage", "fixed:2", "--slippage-bps", "3"), "leave one out"),
        ((*SPOT, "--inside", "trades"), "no trades of BTC/USDT on binance are stored"),
        ((*SPOT, "--inside", "all"), "unknown inside 'all'"),
        ((*SPOT, "--latency", "recorded"), "says when it was received"),
        ((*SPOT, "--latency", "soon"), "latency is milliseconds"),
        ((*SPOT, "--leverage", "2"), "no leverage here"),
        ((*SPOT, "--shorts"), "a spot market has no shorts"),
        ((*SPOT, "--market-type", "linear"), "is a spot market, not linear"),
        ((*SPOT, "--size", "all"), "percent:50"),
        ((*SPOT, "--size", "percent:150"), "fraction of equity"),
        ((*SPOT, "--stop", "0.1", "--param", "stop=0.2"), "its own option"),
        ((*SPOT, "--daily-loss", "2"), "daily_loss"),
        ((*SPOT, "--participation", "2"), "participation must be"),
        ((*SPOT, "--symbol", "BTC/EUR"), "fill the tape"),
        (("--symbol", "BTC/USD:BTC"), "inverse contract"),
    ],
)
def test_what_cannot_be_is_said_in_a_line(command, market, connection, words, message):
    finished = command(*RUN, *words)
    assert isinstance(finished.exception, WrongUse), finished.output
    assert message in str(finished.exception)
    assert "\n" not in str(finished.exception)
    assert connection.execute("SELECT count(*) FROM backtest_runs").fetchone() == (0,)


@pytest.fixture
def market(connection):
    write(connection, "binance", "BTC/USDT", 5, minutes=20)


def test_every_strategy_that_ships_runs_by_name(command, connection):
    write(connection, "binance", "BTC/USDT", 6, minutes=1_000)
    for name in strategies():
        run = done(command, *RUN[:-1], name, *SPOT)
        assert (run["strategy_name"], run["status"]) == (name, "completed")


def test_an_exchange_that_nobody_knows_needs_its_fees(command, connection):
    write(connection, "nowhere", "BTC/USDT", 5, minutes=100)
    words = ("backtest", "run", "--exchange", "nowhere", *SPOT, "--timeframe", "5m", "--strategy", "dca")
    refused = command(*words)
    assert "say them, --fee-bps" in str(refused.exception)
    run = done(command, *words, "--fee-bps", "7", "--size", "percent:50", "--max-trades", "3")
    assert run["strategy_config"]["sources"]["fees"] == "as given"
    assert run["strategy_config"]["policy"]["most_trades"] == 3
    assert MarketType(run["market_type"]) is MarketType.SPOT
