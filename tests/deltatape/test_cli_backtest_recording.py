"""`deltatape backtest run --recording`: a place in the queue, stored and made anew; of files as well."""

import json

import pytest
from typer.testing import CliRunner

from deltatape.cli.app import build
from market import WrongUse

BEGIN = 1_700_000_040
BOOK = '"book-10","XBT/USD"]'
MESSAGES = (
    '[1,{"as":[["101","4","@"],["102","6","@"]],"bs":[["100","9","@"],["80","5","@"]]},' + BOOK,
    '[2,[["100","1","@","s","l",""]],"trade","XBT/USD"]',
    '[1,{"b":[["80","12","@"]]},' + BOOK,
    '[2,[["80","7","@","s","l",""]],"trade","XBT/USD"]',
    '[1,{"b":[["80","5","@"]]},' + BOOK,
    '[2,[["79","1","@","s","l",""]],"trade","XBT/USD"]',
)
RUN = ("backtest", "run", "--exchange", "kraken_v1", "--symbol", "BTC/USD", "--timeframe", "1m")
GRID = ("--strategy", "grid", "--param", "levels=1", "--param", "step=0.25", "--param", "amount=320")
COSTS = ("--fee-bps", "0")


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "session.ws"
    lines = [f"{BEGIN + i}.0: {each.replace('@', f'{BEGIN + i}.0')}" for i, each in enumerate(MESSAGES)]
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture
def command(database, monkeypatch, tmp_path):
    monkeypatch.setenv("DELTATAPE_DATABASE_URL", database)
    monkeypatch.setenv("DELTATAPE_HOME", str(tmp_path))

    def invoke(*words):
        return CliRunner().invoke(build(["backtest"]), words)

    return invoke


def test_a_recording_is_run_over_and_made_anew(command, file):
    done = command(*RUN, *GRID, *COSTS, "--recording", str(file), "--queue", "pro-rata", "--json")
    assert done.exit_code == 0, done.exception or done.output
    run = json.loads(done.stdout)
    assert run["engine_stats"]["fills_by_source"] == {"queue": 1, "trade": 1, "close": 1}
    assert run["strategy_config"]["account"]["queue"] == "pro_rata"
    assert list(run["strategy_config"]["sources"]["recording"]) == [str(file)]
    again = command("backtest", "reproduce", run["backtest_id"], "--json")
    assert json.loads(again.stdout)["is_same"]
    shown = command("backtest", "show", run["backtest_id"]).stdout
    assert "in the queue of their price" in " ".join(shown.split())
    file.unlink()
    gone = command("backtest", "reproduce", run["backtest_id"])
    assert isinstance(gone.exception, WrongUse)
    assert "is gone: bring it back" in str(gone.exception)


def test_files_of_trades_and_changes_are_run_over_and_made_anew(command, tmp_path):
    head = "exchange,symbol,timestamp,local_timestamp"
    levels = [(0, "true", "bid", 100, 9), (0, "true", "bid", 80, 5), (0, "true", "ask", 101, 4)]
    levels += [(2, "false", "bid", 80, 12), (4, "false", "bid", 80, 5)]
    sales = [(1, "a", "sell", 100, 1), (3, "b", "sell", 80, 7), (5, "c", "sell", 79, 1)]
    words = []
    for name, fifth, rows in (("book", "is_snapshot", levels), ("trades", "id", sales)):
        lines = [f"{head},{fifth},side,price,amount"]
        for later, *rest in rows:
            time = (BEGIN + later) * 1_000_000
            lines.append(",".join(map(str, ("kraken", "XBT/USD", time, time, *rest))))
        (tmp_path / f"{name}.csv").write_text("\n".join(lines) + "\n")
        words += ["--recording", str(tmp_path / f"{name}.csv")]
    over = [word.replace("kraken_v1", "kraken") for word in RUN]
    done = command(*over, *GRID, *COSTS, *words, "--queue", "pessimistic", "--json")
    assert done.exit_code == 0, done.exception or done.output
    run = json.loads(done.stdout)
    assert run["engine_stats"]["fills_by_source"] == {"queue": 1, "trade": 1, "close": 1}
    assert run["strategy_config"]["sources"]["terms"] == {"BTC/USD": {"tick": 1.0}}
    again = command("backtest", "reproduce", run["backtest_id"], "--json")
    assert json.loads(again.stdout)["is_same"]


def test_what_makes_no_sense_with_a_recording_is_refused(command, file):
    over = (*RUN, *GRID, *COSTS, "--recording", str(file))
    for words, said in (
        ((*RUN, *GRID, *COSTS, "--queue", "pessimistic"), "give a recording"),
        ((*over, "--queue", "fair"), "pessimistic or pro-rata"),
        ((*over, "--inside", "trades"), "leave --inside out"),
        ((*over, "--symbol", "ETH/USD"), "nothing of ETH/USD on kraken_v1"),
        ((*over, "--slippage", "walk"), "is not walked"),
        ((*over, "--from", "2024-01-01"), "no trade of BTC/USD is in this part"),
    ):
        refused = command(*words)
        assert isinstance(refused.exception, WrongUse), refused.output
        assert said in str(refused.exception)
