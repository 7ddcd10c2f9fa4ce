"""What can be done with stored runs: compare, reproduce, report, export, delete."""

import json

import pytest
from typer.testing import CliRunner

from backtest.doors import backtest
from backtest.store import save
from deltatape.cli.app import build
from market import Candle, Timeframe, WrongUse
from signals.frame import CandleFrame
from storage import read
from storage.tape import write_candles

START = 1_767_225_600_000_000


@pytest.fixture
def runs(connection, database):
    """Two runs over the same ten days; their ids."""
    prices = [100.0 + (i * i % 97) / 10 + i / 50 for i in range(961)]
    rows = [
        Candle(
            symbol="ETH/BTC",
            timeframe=Timeframe.M15,
            timestamp=START + i * Timeframe.M15.microseconds,
            open=prices[i],
            high=max(prices[i], prices[i + 1]) + 0.1,
            low=min(prices[i], prices[i + 1]) - 0.1,
            close=prices[i + 1],
            volume=3.0,
            is_closed=True,
            is_whole=True,
            source="import",
        )
        for i in range(960)
    ]
    write_candles(connection, "binance", rows)
    connection.commit()
    frame = CandleFrame.from_polars(read.candles(database, "binance", "ETH/BTC", "15m"), Timeframe.M15)
    found = [
        save(connection, backtest(frame, "ema_cross", fast=fast, exchange="binance", symbol="ETH/BTC"))
        for fast in (5, 9)
    ]
    connection.commit()
    return [str(each) for each in found]


@pytest.fixture
def command(database, monkeypatch, tmp_path):
    """`deltatape backtest …` in this process; refuses to go on after a failure."""
    monkeypatch.setenv("DELTATAPE_DATABASE_URL", database)
    monkeypatch.setenv("DELTATAPE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "160")

    def run(*words):
        done = CliRunner().invoke(build(["backtest"]), ["backtest", *words])
        if done.exception and not isinstance(done.exception, SystemExit):
            raise done.exception
        return done

    return run


def test_runs_side_by_side(command, runs):
    done = command("compare", runs[0][:8], runs[1])
    assert done.exit_code == 0
    fast = next(line for line in done.stdout.splitlines() if "fast" in line)
    assert [word for word in fast.split() if word.isdigit()] == ["5", "9"]
    assert "slow" not in done.stdout
    assert "held" in done.stdout
    listed = json.loads(command("compare", *runs, "--json").stdout)
    assert [row["backtest_id"] for row in listed] == runs
    with pytest.raises(WrongUse, match="two runs or more"):
        command("compare", runs[0])


def test_made_anew(command, runs, connection):
    same = command("reproduce", runs[0])
    assert (same.exit_code, "the same, bit by bit" in same.stdout) == (0, True)
    connection.execute("UPDATE candles SET open = close, close = open")
    connection.commit()
    other = command("reproduce", runs[0])
    assert other.exit_code == 1
    assert "came out differently" in other.stdout
    assert "data" in other.stdout
    document = json.loads(command("reproduce", runs[0], "--json").stdout)
    assert document["is_same"] is False
    assert document["causes"][0]["what"] == "data"


def test_as_a_page_and_as_files(command, runs, tmp_path, connection):
    (path,) = command("report", runs[0]).stdout.split()
    page = (tmp_path / "home" / "reports" / f"backtest-{runs[0]}.html").read_text()
    assert path.endswith(f"backtest-{runs[0]}.html")
    assert page.startswith("<!doctype html>")
    command("report", runs[0], "--to", str(tmp_path / "mine.html"))
    assert (tmp_path / "mine.html").read_text() == page
    paths = command("export", runs[1], "--format", "csv", "--to", str(tmp_path / "files")).stdout.split()
    assert len(paths) == len(list((tmp_path / "files").iterdir())) == 7
    assert json.loads((tmp_path / "files" / "metrics.json").read_text())["backtest_id"] == runs[1]
    # As a sweep leaves those that are not among its best.
    connection.execute("UPDATE backtest_runs SET daily_results = NULL")
    connection.execute("DELETE FROM backtest_equity_curve")
    connection.commit()
    command("report", runs[0], "--to", str(tmp_path / "anew.html"))
    assert "Drawdown" in (tmp_path / "anew.html").read_text()
    (only,) = command("export", runs[0], "--to", str(tmp_path / "few")).stdout.split()
    assert only.endswith("metrics.json")
    with pytest.raises(WrongUse, match="use parquet or csv"):
        command("export", runs[0], "--format", "xlsx")
    connection.execute("UPDATE backtest_runs SET fills_hash = '0'")
    connection.commit()
    with pytest.raises(WrongUse, match="comes out differently today"):
        command("report", runs[0])


def test_deleting_takes_two_steps(command, runs, connection):
    def left():
        connection.rollback()
        return connection.execute("SELECT count(*) FROM backtest_runs").fetchone()[0]

    shown = command("delete", runs[0][:8])
    assert "would be deleted" in shown.stdout
    assert left() == 2
    with pytest.raises(WrongUse, match="there is no"):
        command("delete", runs[0], "ffffffff-0000", "--yes")
    assert left() == 2
    assert "deleted" in command("delete", runs[0], "--yes").stdout
    assert left() == 1
    for table in ("fills", "positions", "backtest_equity_curve"):
        (count,) = connection.execute(f"SELECT count(DISTINCT backtest_id) FROM {table}").fetchone()
        assert count == 1


@pytest.mark.parametrize("verb", ["compare", "report", "export"])
def test_a_run_that_never_finished_has_nothing_to_show(verb, command, runs, connection):
    connection.execute("UPDATE backtest_runs SET status = 'cancelled'")
    connection.commit()
    with pytest.raises(WrongUse, match="is cancelled"):
        command(verb, *runs[: 2 if verb == "compare" else 1])


def test_machine_code_is_made_ahead(cli):
    done = cli("warm-up", timeout=240)
    assert (done.returncode, "ready in" in done.stdout) == (0, True), done.stderr
