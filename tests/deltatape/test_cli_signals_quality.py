import json
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import numpy as np
import pytest

from market import Timeframe
from signals.follow import Job, recompute
from signals.strategies import composite
from signals.target import Target
from storage.database import Connection, connect

Cli = Callable[..., CompletedProcess[str]]


@pytest.fixture
def tape(connection: Connection) -> None:
    """A walk of closed one-minute candles."""
    rng = np.random.default_rng(3)
    close = 100 * np.exp(np.cumsum(rng.normal(0, 2e-3, 500)))
    with connection.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO candles (timestamp, exchange, symbol, interval, open, high, low, close, volume,"
            " is_closed, is_whole, source) VALUES (timestamptz '2026-03-01' + %s * interval '1 minute',"
            " 'kraken', 'BTC/USD', '1m', %s, %s, %s, %s, %s, true, true, 'import')",
            [(i, p, p * 1.001, p * 0.999, p, float(rng.exponential())) for i, p in enumerate(close.tolist())],
        )
    connection.commit()


def test_quality_in_tables_json_and_a_picture(
    cli: Cli, tape: None, connection: Connection, database: str, tmp_path: Path
) -> None:
    picture = tmp_path / "quality.png"
    empty = cli("signals", "quality", "--plot", str(picture))
    assert empty.returncode == 0, empty.stderr
    assert not picture.exists()
    assert empty.stdout.startswith("no outcomes: deltatape signals run or deltatape signals compute")
    job = Job(composite(), Target("kraken", "BTC/USD", Timeframe.M1))
    with connect(database, autocommit=True) as engine:
        list(recompute(engine, job, 0, 2**52))
    done = cli("signals", "quality", "--plot", str(picture))
    assert done.returncode == 0, done.stderr
    assert picture.read_bytes().startswith(b"\x89PNG")
    for words in ("all signals by horizon", "ema_trend", "information coefficient", "STRONG_BUY"):
        assert words in done.stdout
    assert "no calibrated signal has an outcome yet" in done.stdout
    found = json.loads(cli("signals", "quality", "--strategy", "composite", "--json").stdout)
    assert {each["horizon"] for each in found["decay"]} == {1, 4, 16, 64}
    # What the view of the same name says.
    rows = connection.execute(
        "SELECT signal_type, (extract(epoch FROM horizon) / 60)::int, signals, hit_rate::float8,"
        " avg_return * 1e4 FROM signal_quality"
    ).fetchall()
    said = {(each["name"], each["horizon"]): each for each in found["types"]}
    assert len(rows) == len(said) > 8
    for kind, horizon, count, hit_rate, average in rows:
        share = said[kind, horizon]
        assert share["signals"] == count
        assert share["hit_rate"] == pytest.approx(hit_rate)
        assert share["average_bps"] == pytest.approx(average)
    refused = cli("signals", "quality", "--horizon", "5")
    assert refused.returncode == 2
    assert refused.stderr == ("error: no outcome 5 candles after a signal: choose of 1, 4, 16, 64\n")
