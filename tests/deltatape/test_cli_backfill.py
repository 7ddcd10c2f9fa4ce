"""`deltatape backfill` as a user runs it, against the simulator's REST interface."""

import json

import pytest
from beside import SIMULATED, during

RANGE = ("--from", "2026-03-01T23:55:00Z", "--to", "2026-03-02T00:05:00Z")


def test_trades_and_candles_are_filled_once(cli):
    def job(rest, _ws):
        arguments = ("backfill", *SIMULATED, "--rest-url", rest)
        return [
            cli(*arguments, *RANGE, "--json"),
            cli(*arguments, *RANGE, "--json"),
            cli(
                *arguments, "--from", "2026-03-01T23:00", "--to", "2026-03-02", "--candles", "1m,5m", "--json"
            ),
            cli(*arguments, "--from", "2026-03-01T23:50", "--to", "2026-03-02"),
            cli(*arguments, *RANGE, "--funding"),
        ]

    first, again, candles, shown, refused = during("2026-03-02T00:06:00Z", job)
    assert [done.returncode for done in (first, again, candles, shown)] == [0, 0, 0, 0], first.stderr
    assert refused.returncode == 2
    assert refused.stderr == "error: simulated gives no funding of BTC/USDT over REST\n"
    filled = json.loads(first.stdout)
    assert filled["trades"] > 300
    assert (filled["covered_seconds"], filled["left_seconds"], filled["stopped"]) == (600, 0, False)
    assert json.loads(again.stdout)["trades"] == json.loads(again.stdout)["missing_seconds"] == 0
    assert json.loads(candles.stdout)["candles"] == {"1m": 55, "5m": 11}
    assert "trades" not in json.loads(candles.stdout)
    assert "5.0 min" in shown.stdout
    assert json.loads(cli("verify", "--json").stdout)["ok"]


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        ((*SIMULATED, "--from", "2999-01-01"), 2, "still to come"),
        ((*SIMULATED, *RANGE, "--candles", "7m"), 2, "unknown timeframe"),
        ((*SIMULATED, *RANGE, "--candles", ","), 2, "name a timeframe"),
        ((*SIMULATED, *RANGE, "--rest-url", "http://127.0.0.1:9"), 3, "cannot reach simulated"),
        (("--exchange", "kraken_v1", "--symbol", "BTC/CHF", *RANGE), 2, "no longer spoken"),
        (("--exchange", "gate", "--symbol", "BTC/USDT", *RANGE), 2, "no past trades over REST"),
    ],
)
def test_what_cannot_be_is_one_line(cli, arguments, code, says):
    done = cli("backfill", *arguments)
    assert done.returncode == code
    assert says in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_funding_is_filled_and_corrected(cli):
    def job(rest, _ws):
        contract = ("--exchange", "binanceusdm", "--symbol", "BTC/USDT:USDT", "--rest-url", rest)
        arguments = ("backfill", *contract, "--from", "2026-02-20", "--to", "2026-03-02", "--funding")
        return [cli(*arguments, "--json"), cli(*arguments, "--json"), cli(*arguments)]

    first, again, shown = during("2026-03-02T00:06:00Z", job, symbol="BTC/USDT:USDT", protocol="binanceusdm")
    assert [done.returncode for done in (first, again, shown)] == [0, 0, 0], first.stderr
    assert json.loads(first.stdout)["funding"] == 30
    assert "trades" not in json.loads(first.stdout)
    assert json.loads(again.stdout)["funding"] == 0
    assert "new payments of funding" in shown.stdout


def test_an_unknown_symbol_is_one_line(cli):
    arguments = ("backfill", "--exchange", "simulated", "--symbol", "NOPE/USDT", *RANGE)
    done = during("2026-03-02T00:06:00Z", lambda rest, _ws: cli(*arguments, "--rest-url", rest))
    assert done.returncode == 2
    assert "does not list NOPE/USDT" in done.stderr
