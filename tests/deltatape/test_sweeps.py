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
from storage.instruments import note_instruments
from storage.tape import write_candles

OPTIONS = SweepOptions(
    exchange="kraken",
    symbol="BTC/USD",
    timeframe="1h",
    strategy="ema_cross",
    grid={"fast": "3,6", "slow": "10:30:10"},
    keep=1,
)


@pytest.fixture
def tape(connection, database):
    """A market whose fees and steps are not what an account has by itself; gives the database."""
    random = np.random.default_rng(11)
    prices = [100.0, *(100.0 * np.exp(np.cumsum(random.normal(0, 0.01, 600)))).tolist()]
    rows = [
        Candle(
            symbol="BTC/USD",
            timeframe=Timeframe.H1,
            timestamp=1_767_225_600_000_000 + i * Timeframe.H1.microseconds,
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
    write_candles(connection, "kraken", rows)
    steps = {"tick_size": "0.1", "lot_size": "0.01", "min_notional": "5"}
    names = {"exchange": "kraken", "symbol": "BTC/USD", "exchange_symbol": "XBTUSD", "base": "BTC"}
    note_instruments(connection, [Instrument(**names, quote="USD", **steps)])
    connection.commit()
    return database


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
def test_the_best_run_of_a_sweep_is_that_of_backtest_run(
    tape, connection, monkeypatch, tmp_path, asked, words
):
    monkeypatch.setenv("DELTATAPE_DATABASE_URL", tape)
    monkeypatch.setenv("DELTATAPE_HOME", str(tmp_path))
    swept = run_sweep(tape, OPTIONS.model_copy(update=asked), fixed={"stop": 0.02})
    best = history.run(connection, str(swept.best[0].backtest_id))
    values = swept.best[0].setup.values
    given = [word for name in ("fast", "slow") for word in ("--param", f"{name}={values[name]}")]
    run = ("backtest", "run", "--exchange", "kraken", "--symbol", "BTC/USD", "--timeframe", "1h")
    done = CliRunner().invoke(
        build(["backtest"]), [*run, "--strategy", "ema_cross", *given, "--stop", "0.02", *words, "--json"]
    )
    assert done.exit_code == 0, done.exception or done.output
    alone = json.loads(done.stdout)
    assert alone["total_trades"] > 5
    assert best["fills_hash"] == alone["fills_hash"]
    sources, others = best["strategy_config"]["sources"], alone["strategy_config"]["sources"]
    assert sources == {**others, "inside": "candles"}
    assert sources["terms"] == {"BTC/USD": {"tick": 0.1, "lot": 0.01, "min_notional": 5.0}}
    if not asked:
        assert best["strategy_config"]["account"]["fee_bps"] == fees_of("kraken", MarketType.SPOT).taker_bps
    assert reproduce(tape, best).is_same


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
