"""`deltatape backtest` as people and scripts run it."""

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import backtest
from deltatape.cli.app import build
from market import Candle, Timeframe, WrongUse
from storage.tape import write_candles

START = 1_767_225_600_000_000
RUN = ("backtest", "run", "--exchange", "binance", "--symbol", "ETH/BTC", "--timeframe", "5m")


@pytest.fixture
def cli(cli, monkeypatch):
    """As ever, with the machine code that the tests have compiled already."""
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(Path(backtest.__file__).parent / "__pycache__"))
    return cli


@pytest.fixture
def candles(connection):
    """Ten days of a random walk on the tape."""
    random = np.random.default_rng(5)
    close = 100.0 * np.exp(np.cumsum(random.normal(0, 0.003, 2_880)))
    opens = [100.0, *close[:-1].tolist()]
    rows = [
        Candle(
            symbol="ETH/BTC",
            timeframe=Timeframe.M5,
            timestamp=START + i * Timeframe.M5.microseconds,
            open=opens[i],
            high=max(opens[i], value) * 1.001,
            low=min(opens[i], value) * 0.999,
            close=value,
            volume=3.0,
            is_closed=True,
            is_whole=True,
            source="import",
        )
        for i, value in enumerate(close.tolist())
    ]
    write_candles(connection, "binance", rows)
    connection.commit()


@pytest.mark.usefixtures("candles")
def test_run_list_and_show(cli):
    done = cli(*RUN, "--strategy", "ema_cross", "--param", "fast=5", "--param", "stop=0.02", "--json")
    assert done.returncode == 0, done.stderr
    run = json.loads(done.stdout)
    assert run["status"] == "completed"
    assert run["strategy_config"]["parameters"] == {"fast": 5, "slow": 26}
    assert run["total_trades"] > 10
    assert len(run["last_positions"]) == 8
    assert Path(run["picture"]).read_bytes().startswith(b"\x89PNG")

    listed = json.loads(cli("backtest", "list", "--json").stdout)
    assert [row["backtest_id"] for row in listed] == [run["backtest_id"]]
    table = cli("backtest", "list", env={"COLUMNS": "160"}).stdout
    assert run["backtest_id"][:8] in table
    assert "fast=5 slow=26 stop=0.02" in table

    shown = cli("backtest", "show", run["backtest_id"][:8], env={"COLUMNS": "120"})
    assert shown.returncode == 0, shown.stderr
    assert "Sortino" in shown.stdout
    assert f"deltatape backtest report {run['backtest_id'][:8]}" in shown.stdout
    assert "next_open" in shown.stdout
    assert "⠀" in shown.stdout or "⣀" in shown.stdout
    assert f"backtest-{run['backtest_id']}.png" in shown.stdout
    again = json.loads(cli("backtest", "show", run["backtest_id"], "--json").stdout)
    assert again["fills_hash"] == run["fills_hash"]


@pytest.mark.usefixtures("candles")
def test_a_span_a_short_and_the_composite(cli):
    spanned = cli(*RUN, "--strategy", "composite", "--from", "2026-01-02", "--to", "2026-01-06", "--json")
    assert spanned.returncode == 0, spanned.stderr
    run = json.loads(spanned.stdout)
    assert run["start_date"] == "2026-01-02T00:00:00Z"
    assert run["end_date"] == "2026-01-06T00:00:00Z"
    short = cli(
        *RUN, "--strategy", "ema_cross", "--param", "shorts=true", "--market-type", "margin", "--json"
    )
    assert json.loads(short.stdout)["market_type"] == "margin"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--strategy", "nope"), "unknown strategy 'nope': use one of bollinger, composite, cvd_divergence"),
        (("--strategy", "ema_cross", "--param", "fats=3"), "it has fast, slow"),
        (("--strategy", "ema_cross", "--param", "fast"), "write a parameter as name=value"),
        (("--strategy", "ema_cross", "--param", "fast=50"), "below slow"),
        (("--strategy", "ema_cross", "--param", "shorts=1"), "market type margin or linear"),
        (("--strategy", "ema_cross", "--capital", "0"), "capital must be above 0"),
        (("--strategy", "ema_cross", "--capital", "1e300"), "at most 1e+15"),
        (("--strategy", "ema_cross", "--param", "fast=5", "--param", "fast=6"), "fast is given twice"),
        (("--strategy", "ema_cross", "--market-type", "inverse"), "cannot be backtested yet"),
        (("--strategy", "ema_cross", "--market-type", "x"), "unknown market type"),
        (("--strategy", "ema_cross", "--from", "yesterday"), "not a time"),
        (
            ("--strategy", "ema_cross"),
            "fill the tape: deltatape collect --exchange binance --symbols ETH/BTC",
        ),
    ],
)
def test_what_cannot_be_run_says_why_and_stores_nothing(
    database, connection, monkeypatch, tmp_path, arguments, message
):
    monkeypatch.setenv("DELTATAPE_DATABASE_URL", database)
    monkeypatch.setenv("DELTATAPE_HOME", str(tmp_path))
    done = CliRunner().invoke(build(["backtest"]), [*RUN, *arguments])
    assert isinstance(done.exception, WrongUse)
    assert message in str(done.exception)
    assert connection.execute("SELECT count(*) FROM backtest_runs").fetchone() == (0,)


def test_a_refusal_is_one_line(cli):
    done = cli(*RUN, "--strategy", "nope")
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert "use one of bollinger" in done.stderr


def test_an_empty_list_says_what_fills_it(cli):
    assert "deltatape backtest run --help" in cli("backtest", "list").stdout
    assert json.loads(cli("backtest", "list", "--json").stdout) == []


def test_an_unknown_run(cli):
    done = cli("backtest", "show", "abc")
    assert done.returncode == 2
    assert "see: deltatape backtest list" in done.stderr


@pytest.mark.usefixtures("candles")
def test_reports_that_cannot_be_written(cli, tmp_path):
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "reports").write_text("")
    done = cli(*RUN, "--strategy", "ema_cross")
    assert done.returncode == 2
    assert "cannot write" in done.stderr
    assert "Traceback" not in done.stderr
