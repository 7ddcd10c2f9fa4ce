"""`deltatape sweep` as people and scripts run it."""

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import backtest
from deltatape.cli.app import build
from market import Candle, Timeframe, WrongUse
from storage.tape import write_candles

SWEEP = ("sweep", "run", "--exchange", "binance", "--symbol", "ETH/BTC", "--timeframe", "1h")


@pytest.fixture
def cli(cli, monkeypatch):
    """As ever, with the machine code that the tests have compiled already."""
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(Path(backtest.__file__).parent / "__pycache__"))
    return cli


@pytest.fixture
def candles(connection):
    """Fifty days of a random walk on the tape."""
    random = np.random.default_rng(6)
    prices = [100.0, *(100.0 * np.exp(np.cumsum(random.normal(0, 0.01, 1_200)))).tolist()]
    rows = [
        Candle(
            symbol="ETH/BTC",
            timeframe=Timeframe.H1,
            timestamp=1_767_225_600_000_000 + i * Timeframe.H1.microseconds,
            open=before,
            high=max(before, price),
            low=min(before, price),
            close=price,
            volume=3.0,
            is_closed=True,
            is_whole=True,
            source="import",
        )
        for i, (before, price) in enumerate(pairwise(prices))
    ]
    write_candles(connection, "binance", rows)
    connection.commit()


@pytest.mark.usefixtures("candles")
def test_run_list_and_show(cli, connection):
    arguments = ("--strategy", "ema_cross", "--grid", "fast=5:20:5", "--grid", "slow=20,40", "--keep", "2")
    done = cli(*SWEEP, *arguments, "--json")
    assert done.returncode == 0, done.stderr
    sweep = json.loads(done.stdout)
    assert (sweep["status"], sweep["total_runs"], sweep["finished_runs"]) == ("completed", 7, 7)
    assert sweep["statistics"]["left_out"] == 1
    sharpes = [run["sharpe_ratio"] for run in sweep["best_runs"]]
    assert sharpes == sorted(sharpes, reverse=True)
    assert sweep["best_backtest_id"] == sweep["best_runs"][0]["backtest_id"]
    assert connection.execute("SELECT count(DISTINCT backtest_id) FROM positions").fetchone() == (2,)

    assert [row["id"] for row in json.loads(cli("sweep", "list", "--json").stdout)] == [sweep["id"]]
    listed = cli("sweep", "list", env={"COLUMNS": "160"}).stdout
    assert "fast=5…20 (4) slow=20…40 (2)" in listed
    assert "7 of 7" in listed

    shown = cli("sweep", "show", sweep["id"][:8], env={"COLUMNS": "160"})
    assert "1 combinations make no sense" in shown.stdout
    assert f"deltatape backtest show {sweep['best_backtest_id'][:8]}" in shown.stdout

    best = cli("backtest", "show", sweep["best_backtest_id"], env={"COLUMNS": "120"})
    assert "equity: " in best.stdout
    worst = cli("backtest", "show", sweep["best_runs"][-1]["backtest_id"], env={"COLUMNS": "120"})
    assert "no equity curve is stored" in worst.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--strategy", "ema_cross", "--grid", "fast"), "write a grid as"),
        (("--strategy", "ema_cross", "--grid", "fast=30"), "no combination of the grid makes sense"),
        (("--strategy", "ema_cross", "--grid", "fast=5"), "fill the tape: deltatape collect"),
        (("--strategy", "nope", "--grid", "fast=5"), "unknown strategy"),
        (("--strategy", "ema_cross", "--grid", "fast=5", "--grid", "fast=6"), "fast is given twice"),
        (("--strategy", "ema_cross", "--grid", "fast=5", "--param", "fast=6"), "in --grid and in --param"),
        (("--strategy", "ema_cross", "--grid", "fast=1:1e300:1"), "too large a number"),
    ],
)
def test_what_cannot_be_swept_says_why_and_stores_nothing(
    database, connection, monkeypatch, tmp_path, arguments, message
):
    monkeypatch.setenv("DELTATAPE_DATABASE_URL", database)
    monkeypatch.setenv("DELTATAPE_HOME", str(tmp_path))
    done = CliRunner().invoke(build(["sweep"]), [*SWEEP, *arguments])
    assert isinstance(done.exception, WrongUse)
    assert message in str(done.exception)
    assert connection.execute("SELECT count(*) FROM sweeps").fetchone() == (0,)


def test_empty_lists_say_what_fills_them(cli):
    assert "deltatape sweep run --help" in cli("sweep", "list").stdout
    assert cli("sweep", "show", "abc").returncode == 2


@pytest.mark.usefixtures("candles")
def test_folds_are_judged_and_shown(cli):
    arguments = ("--strategy", "ema_cross", "--grid", "fast=5,10", "--folds", "3")
    done = cli(*SWEEP, *arguments, env={"COLUMNS": "160"})
    assert done.returncode == 0, done.stderr
    assert "chosen by sharpe_ratio in sample, judged out of sample" in done.stdout
    assert "out of sample, one fold after the other:" in done.stdout
    assert "9 of 9 runs" in done.stdout
    (row,) = json.loads(cli("sweep", "list", "--json").stdout)
    assert row["definition"]["folds"] == 3
    assert [fold["fold"] for fold in row["statistics"]["folds"]] == [1, 2, 3]

    few = cli(*SWEEP, *arguments[:-1], "100", "--to", "2026-01-03")
    assert few.returncode == 2
    assert "48 candles are too few for 100 folds" in few.stderr


@pytest.mark.usefixtures("candles")
def test_a_cluster_needs_an_address(cli):
    done = cli(*SWEEP, "--strategy", "ema_cross", "--grid", "fast=5,10", "--cluster", "localhost")
    assert done.returncode == 2
    assert "write a scheduler's address as tcp://host:port" in done.stderr
    assert json.loads(cli("sweep", "list", "--json").stdout) == []
