import json
from collections.abc import Callable
from subprocess import CompletedProcess

import numpy as np
import pytest

from storage.database import Connection

Cli = Callable[..., CompletedProcess[str]]
COUNT = 400


@pytest.fixture
def tape(connection: Connection) -> int:
    """A walk of closed one-minute candles; gives their number."""
    rng = np.random.default_rng(3)
    close = 100 * np.exp(np.cumsum(rng.normal(0, 2e-3, COUNT)))
    with connection.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO candles (timestamp, exchange, symbol, interval, open, high, low, close, volume,"
            " is_closed, is_whole, source) VALUES (timestamptz '2026-03-01' + %s * interval '1 minute',"
            " 'kraken', 'BTC/USD', '1m', %s, %s, %s, %s, %s, true, true, 'import')",
            [(i, p, p * 1.001, p * 0.999, p, float(rng.exponential())) for i, p in enumerate(close.tolist())],
        )
    connection.commit()
    return COUNT


def ok(done: CompletedProcess[str]) -> str:
    assert done.returncode == 0, done.stderr
    return done.stdout


def refused(done: CompletedProcess[str], code: int, says: str) -> None:
    assert done.returncode == code, done.stderr
    assert says in done.stderr
    assert done.stderr.startswith("error: ")
    assert len(done.stderr.splitlines()) == 1


def test_compute_then_list(cli: Cli, tape: int) -> None:
    (row,) = json.loads(ok(cli("signals", "compute", "--json")))
    assert (row["exchange"], row["symbol"], row["strategy"]) == ("kraken", "BTC/USD", "composite")
    assert row["candles"] == tape
    assert row["signals"] > 10
    (again,) = json.loads(ok(cli("signals", "compute", "--exchange", "kraken", "--json")))
    assert (again["signals"], again["revised"]) == (0, 0)
    listed = json.loads(ok(cli("signals", "list", "--limit", "3", "--symbol", "BTC/USD", "--json")))
    assert len(listed) == 3
    assert listed[0]["timestamp"] > listed[1]["timestamp"]
    assert listed[0]["reasons"]
    assert listed[0]["confidence_level"] == "LOW"
    assert "rsi_14" in listed[0]["indicators"]
    text = ok(cli("signals", "list", "--limit", "1"))
    assert "RSI(14) = " in text
    assert "uncalibrated" in text


def test_an_empty_list_says_what_there_is(cli: Cli, tape: int) -> None:
    assert "signals compute writes them" in ok(cli("signals", "list", "--exchange", "kraken"))
    ok(cli("signals", "compute"))
    assert (
        ok(cli("signals", "list", "--exchange", "mtgox"))
        == "no such signals; there are some of kraken BTC/USD\n"
    )


def test_a_part_can_be_computed(cli: Cli, tape: int) -> None:
    span = ("--from", "2026-03-01T01:00", "--to", "2026-03-01T02:00")
    (row,) = json.loads(
        ok(cli("signals", "compute", "--symbol", "BTC/USD", "--timeframe", "1m", *span, "--json"))
    )
    assert row["candles"] == 60


def test_run_follows_for_a_while(cli: Cli, tape: int, connection: Connection) -> None:
    (row,) = json.loads(ok(cli("signals", "run", "--for", "2", "--json")))
    assert row["candles"] == tape
    stored = connection.execute("SELECT count(*) FROM signals").fetchone()
    assert stored == (row["signals"],)
    kept = connection.execute("SELECT count(DISTINCT name) FROM indicators").fetchone()
    assert kept == (3,)


def test_settings_choose_strategies_and_thresholds(cli: Cli, tape: int) -> None:
    env = {"DELTATAPE_SIGNALS": '{"strategies": ["trend"], "thresholds": {"strong": 0.9, "weak": 0.4}}'}
    (row,) = json.loads(ok(cli("signals", "compute", "--json", env=env)))
    assert row["strategy"] == "trend"
    refused(
        cli("signals", "compute", env={"DELTATAPE_SIGNALS": '{"strategies": ["alchemy"]}'}),
        2,
        "unknown strategy 'alchemy': use one of composite, mean_reversion",
    )
    refused(
        cli("signals", "compute", env={"DELTATAPE_SIGNALS": '{"thresholds": {"strong": 0.1}}'}),
        2,
        "0 < weak <= strong <= 1",
    )


def test_nothing_stored_says_what_fills_it(cli: Cli) -> None:
    assert "deltatape signals run" in ok(cli("signals", "list"))
    assert json.loads(ok(cli("signals", "list", "--json"))) == []
    refused(cli("signals", "compute"), 2, "deltatape collect writes them")
    without = {"DELTATAPE_SIGNALS": '{"strategies": []}'}
    refused(cli("signals", "compute", env=without), 2, "signals.strategies names none")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["compute", "--timeframe", "2m"], "unknown timeframe '2m'"),
        (["compute", "--from", "yesterday"], "not a time"),
        (["compute", "--from", "2026-02-01", "--to", "2026-01-01"], "must lie before"),
        (["run", "--timeframes", "1m,7m"], "unknown timeframe '7m'"),
        (["list", "--timeframe", "2m"], "unknown timeframe '2m'"),
    ],
)
def test_wrong_use_is_one_line(cli: Cli, arguments: list[str], says: str) -> None:
    refused(cli("signals", *arguments), 2, says)


def test_a_missing_database_is_exit_code_3(cli: Cli) -> None:
    env = {"DELTATAPE_DATABASE_URL": "postgresql://nobody@localhost:1/nothing"}
    refused(cli("signals", "list", env=env), 3, "cannot")
    refused(cli("signals", "run", "--for", "1", env=env), 3, "cannot connect")


def test_indicators_list_show_and_compute(cli: Cli, tape: int, connection: Connection) -> None:
    names = [row["name"] for row in json.loads(ok(cli("indicators", "list", "--json")))]
    assert {"rsi_14", "macd_12_26_9", "bbands_20_2", "sma_20", "ema_20", "atr_14", "cvd_20"} <= set(names)
    assert "rsi_14" in ok(cli("indicators", "list"))
    place = ("--exchange", "kraken", "--symbol", "BTC/USD")
    rows = json.loads(ok(cli("indicators", "show", "macd", *place, "--limit", "5", "--json")))
    assert len(rows) == 5
    assert list(rows[0]) == ["timestamp", "close", "macd", "signal", "histogram"]
    done = json.loads(ok(cli("indicators", "compute", "rsi_7", *place, "--json")))
    assert done == {"name": "rsi_7", "candles": tape, "written": tape}
    assert json.loads(ok(cli("indicators", "compute", "rsi_7", *place, "--json")))["written"] == 0
    stored = connection.execute("SELECT count(value) FROM indicators WHERE name = 'rsi_7'").fetchone()
    assert stored == (tape - 7,)


def test_an_unknown_indicator_or_market_is_refused(cli: Cli) -> None:
    place = ("--exchange", "kraken", "--symbol", "BTC/USD")
    refused(cli("indicators", "show", "rsl_14", *place), 2, "did you mean rsi_14?")
    refused(cli("indicators", "show", "rsi_14", *place), 2, "no closed candles of kraken BTC/USD 1m")
