"""Sweeps over stored candles: what they cost, and what the settings may say of them."""

import json
from itertools import pairwise

import numpy as np
import pytest
from typer.testing import CliRunner

from backtest import history
from backtest.fees import fees_of
from backtest.reproduce import reproduce
from deltatape import settings
from deltatape.cli.app import build
from deltatape.settings import SweepOptions
from deltatape.sweeps import run_sweep
from market import Candle, Instrument, MarketType, Timeframe, WrongUse
from market.timeframe import to_datetime
from storage.instruments import note_instruments
from storage.tape import write_candles

START, HOURS = 1_767_225_600_000_000, 600
OPTIONS = SweepOptions(
    exchange="kraken",
    symbol="BTC/USD",
    timeframe="1h",
    strategy="ema_cross",
    grid={"fast": "3,6", "slow": "10:30:10"},
    keep=1,
)


def store(connection, exchange, symbol, **steps):
    """Hours of a random walk, and an instrument whose steps are not what an account has by itself."""
    random = np.random.default_rng(11)
    prices = [100.0, *(100.0 * np.exp(np.cumsum(random.normal(0, 0.01, HOURS)))).tolist()]
    rows = [
        Candle(
            symbol=symbol,
            timeframe=Timeframe.H1,
            timestamp=START + i * Timeframe.H1.microseconds,
            open=before,
            high=max(before, price) * 1.002,
            low=min(before, price) * 0.998,
            close=price,
            volume=50.0,
            is_closed=True,
            is_whole=True,
            source="import",
        )
        for i, (before, price) in enumerate(pairwise(prices))
    ]
    write_candles(connection, exchange, rows)
    names = {"exchange": exchange, "symbol": symbol, "exchange_symbol": "X", "base": "BTC", "quote": "USD"}
    note_instruments(connection, [Instrument(**names, **steps)])
    connection.commit()


@pytest.fixture
def tape(connection, database):
    """A market of Kraken's; gives the database."""
    store(connection, "kraken", "BTC/USD", tick_size="0.1", lot_size="0.01", min_notional="5")
    return database


@pytest.fixture
def command(database, monkeypatch, tmp_path):
    """`deltatape backtest run` over hours, which gives the stored run."""
    monkeypatch.setenv("DELTATAPE_DATABASE_URL", database)
    monkeypatch.setenv("DELTATAPE_HOME", str(tmp_path))

    def run(exchange, symbol, values, *words):
        given = [word for name, value in values.items() for word in ("--param", f"{name}={value}")]
        market = ("--exchange", exchange, "--symbol", symbol, "--timeframe", "1h")
        words = ("backtest", "run", *market, "--strategy", "ema_cross", *given, *words, "--json")
        done = CliRunner().invoke(build(["backtest"]), words)
        assert done.exit_code == 0, done.exception or done.output
        return json.loads(done.stdout)

    return run


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({}, ()),
        ({"maker_bps": 3.0, "slippage_bps": 7.0}, ("--maker-bps", "3", "--slippage-bps", "7")),
        (
            {"fee_bps": 4.0, "latency": "50", "participation": 0.5, "market_type": "margin"},
            ("--fee-bps", "4", "--latency", "50", "--participation", "0.5", "--market-type", "margin"),
        ),
    ],
)
def test_the_best_run_of_a_sweep_is_that_of_backtest_run(tape, connection, command, asked, words):
    swept = run_sweep(tape, OPTIONS.model_copy(update=asked), fixed={"stop": 0.02})
    best = history.run(connection, str(swept.best[0].backtest_id))
    alone = command("kraken", "BTC/USD", swept.best[0].setup.values, "--stop", "0.02", *words)
    assert alone["total_trades"] > 5
    assert best["fills_hash"] == alone["fills_hash"]
    sources, others = best["strategy_config"]["sources"], alone["strategy_config"]["sources"]
    assert sources == {**others, "inside": "candles"}
    assert sources["terms"] == {"BTC/USD": {"tick": 0.1, "lot": 0.01, "min_notional": 5.0}}
    if not asked:
        assert best["strategy_config"]["account"]["fee_bps"] == fees_of("kraken", MarketType.SPOT).taker_bps
    assert reproduce(tape, best).is_same


def test_a_contract_pays_funding_in_a_sweep_too(database, connection, command):
    swap = "BTC/USD:USD"
    store(connection, "binanceusdm", swap, market_type=MarketType.LINEAR)
    connection.execute(
        "INSERT INTO funding_rates SELECT t, 'binanceusdm', %s, 0.0005, NULL"
        " FROM generate_series(%s::timestamptz, %s, '8 hours') AS t",
        (swap, to_datetime(START), to_datetime(START + HOURS * Timeframe.H1.microseconds)),
    )
    connection.commit()
    asked = {"exchange": "binanceusdm", "symbol": swap, "leverage": 2.0}
    swept = run_sweep(database, OPTIONS.model_copy(update=asked))
    best = history.run(connection, str(swept.best[0].backtest_id))
    alone = command("binanceusdm", swap, swept.best[0].setup.values, "--leverage", "2")
    assert best["engine_stats"]["funding"] == alone["engine_stats"]["funding"] != 0
    assert best["fills_hash"] == alone["fills_hash"]
    assert best["data_fingerprint"] == alone["data_fingerprint"]
    walked = run_sweep(database, OPTIONS.model_copy(update={**asked, "folds": 2}))
    for run_id in walked.best[0].backtest_id, of_last_fold(connection, walked):
        again = reproduce(database, history.run(connection, str(run_id)))
        assert again.is_same
        assert again.causes == []
    free = run_sweep(database, OPTIONS.model_copy(update={**asked, "funding": False}))
    assert "funding" not in history.run(connection, str(free.best[0].backtest_id))["engine_stats"]


def of_last_fold(connection, swept):
    """A run of the last fold in sample, of which only the figures are stored."""
    (run_id,) = connection.execute(
        "SELECT backtest_id FROM backtest_runs WHERE sweep_id = %s AND fold = 2 AND split = 'in_sample'"
        " ORDER BY backtest_id LIMIT 1",
        (swept.sweep_id,),
    ).fetchone()
    return run_id


def test_the_settings_name_folds_and_a_cluster(tape, connection, monkeypatch, tmp_path):
    (tmp_path / "deltatape.toml").write_text(
        '[[sweep]]\nexchange = "kraken"\nsymbol = "BTC/USD"\ntimeframe = "1h"\nstrategy = "ema_cross"\n'
        'grid = { fast = "3,6" }\nfolds = 2\nmaker_bps = 3.0\n'
        '[[sweep]]\nexchange = "kraken"\nsymbol = "BTC/USD"\ntimeframe = "1h"\nstrategy = "ema_cross"\n'
        'grid = { fast = "3,6" }\ncluster = "localhost"\n'
    )
    monkeypatch.setenv("DELTATAPE_HOME", str(tmp_path))
    walking, elsewhere = settings.load().sweep
    seen = []
    done = run_sweep(tape, walking, progress=lambda *counts: seen.append(counts))
    assert (done.total, seen[-1]) == (6, (6, 6))
    row = history.sweep(connection, str(done.sweep_id))
    assert [fold["fold"] for fold in row["statistics"]["folds"]] == [1, 2]
    assert row["definition"]["folds"] == 2
    with pytest.raises(WrongUse, match="write a scheduler's address as tcp://host:port"):
        run_sweep(tape, elsewhere)


def test_recorded_latency_needs_more_than_candles(tape):
    with pytest.raises(WrongUse, match="say milliseconds"):
        run_sweep(tape, OPTIONS.model_copy(update={"latency": "recorded"}))


def test_without_candles_there_is_no_sweep(database, connection):
    assert run_sweep(database, OPTIONS) is None
    assert connection.execute("SELECT count(*) FROM sweeps").fetchone() == (0,)


def test_options_that_make_no_sense_are_refused_by_name():
    with pytest.raises(WrongUse, match="setting capital: Input should be greater than 0"):
        settings.sweep_options({**OPTIONS.model_dump(), "capital": -1.0})
