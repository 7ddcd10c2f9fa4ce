"""`deltatape signals check` on stored candles: a shipped strategy, and some of one's own."""

import json
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import numpy as np
import pytest

from market import Candle, Timeframe, parse_time
from storage.database import Connection
from storage.tape import write_candles

Cli = Callable[..., CompletedProcess[str]]
START = parse_time("2026-03-01T00:00:00Z")
OWN = """
import numpy as np

class Prophet:
    '''Buys before it rises.'''
    cites = ("close",)
    def score(self, values):
        return np.sign(np.append(np.diff(values["close"]), np.nan))
    def reason(self, values):
        return "it will rise"

class Raising(Prophet):
    kind = "raising"
    def score(self, values):
        return [][0]
"""


@pytest.fixture
def tape(connection: Connection) -> None:
    closes = 100 + np.cumsum(np.random.default_rng(1).normal(0, 0.1, 600))
    write_candles(
        connection,
        "kraken",
        (
            Candle(
                symbol="BTC/USD",
                timeframe=Timeframe.M1,
                timestamp=START + i * 60_000_000,
                open=close,
                high=close + 0.1,
                low=close - 0.1,
                close=close,
                volume=1.0,
                is_closed=True,
                source="import",
            )
            for i, close in enumerate(closes.tolist())
        ),
    )
    connection.commit()


@pytest.mark.usefixtures("tape")
def test_what_is_sound_and_what_looks_ahead(cli: Cli, tmp_path: Path) -> None:
    done = cli("signals", "check", "trend", "--places", "10")
    assert done.returncode == 0, done.stderr
    assert "no value changes" in done.stdout
    folder = tmp_path / "own"
    folder.mkdir()
    (folder / "mine.py").write_text(OWN)
    env = {"DELTATAPE_SIGNALS__FOLDER": str(folder)}
    done = cli("signals", "check", "prophet", "--places", "10", "--json", env=env)
    assert done.returncode == 1, done.stderr
    checks = {each["check"]: each for each in json.loads(done.stdout)["checks"]}
    assert checks["future"]["candles"] == 600
    assert checks["future"]["differences"][0]["culprit"] == "prophet"
    done = cli("signals", "check", "prophet", "--places", "10", env=env)
    assert "prophet at 2026-03-01T" in done.stdout.replace("\n", " ")
    done = cli("signals", "check", "raising", env=env)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.strip() == "error: strategy raising: IndexError: list index out of range"


def test_wrong_use_is_one_line(cli: Cli) -> None:
    for arguments, says in (
        (["trend"], "no closed candles are stored for that"),
        (["alchemy"], "unknown strategy 'alchemy'"),
        (["trend", "--timeframe", "7m"], "unknown timeframe '7m'"),
    ):
        done = cli("signals", "check", *arguments)
        assert done.returncode == 2
        assert says in done.stderr
        assert "Traceback" not in done.stderr
