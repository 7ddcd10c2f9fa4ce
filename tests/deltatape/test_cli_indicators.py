import json
from collections.abc import Callable
from subprocess import CompletedProcess

import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner
from typer.main import get_command

import deltatape as dt
from deltatape import research
from deltatape.cli.app import build
from market import MICROSECONDS, Side, Timeframe, Trade, parse_time
from signals.blocks import compute
from signals.frame import CandleFrame
from signals.indicator_store import Values, write_indicators
from signals.target import Target
from storage import read
from storage.amend import amend
from storage.coverage import Span
from storage.database import Connection

Cli = Callable[..., CompletedProcess[str]]
PLACE = ("okx", "BTC/USDT")
OPTIONS = ("--exchange", PLACE[0], "--symbol", PLACE[1])
START, MINUTES = parse_time("2026-03-01T00:00:00Z"), 90
NAMES = ("adx", "macd_5_8_3", "stacked_imbalance_1_1.5", "volume_profile_10_1")


@pytest.fixture
def tape(connection: Connection) -> pl.DataFrame:
    """An hour and a half of trades and the candles of them; gives the candles."""
    rng = np.random.default_rng(8)
    count, end = 6 * MINUTES, MINUTES * 60 * MICROSECONDS
    times = START + np.sort(rng.integers(0, end // 1000, count)) * 1000
    price = np.round(60_000 + np.cumsum(rng.normal(0, 5, count)), 1)
    rows = zip(times.tolist(), price.tolist(), rng.integers(1, 500, count).tolist(), strict=True)
    trades = [
        Trade(PLACE[1], time, str(i), i, price, size / 1000, Side.BUY if rng.random() < 0.5 else Side.SELL)
        for i, (time, price, size) in enumerate(rows, 1)
    ]
    span = Span(START, START + end, None, None, "file", "import", 0)
    amend(connection, *PLACE, trades, [None] * count, [span], "import")
    connection.commit()
    return read.candles(connection.info.dsn, *PLACE, "1m")


@pytest.fixture
def _here(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The research interface reads the test's database."""
    monkeypatch.setattr(research, "_url", lambda: database)


def said(done: CompletedProcess[str]) -> str:
    assert done.returncode == 0, done.stderr
    return done.stdout


def known(values: np.ndarray) -> list[float | None]:
    return [None if np.isnan(value) else value for value in values]


def listed(*arguments: str) -> str:
    """What `indicators list` says, here in this process: it reads nothing."""
    done = CliRunner().invoke(get_command(build({"indicators"})), ["indicators", "list", *arguments])
    assert done.exit_code == 0, done.output
    return done.output


def test_the_list_can_be_searched() -> None:
    rows = {row["name"]: row for row in json.loads(listed("ta-lib", "--json"))}
    assert len(rows) > 190
    assert {"adx_14", "cdldoji"} <= set(rows)
    assert "cvd_20" not in rows
    assert rows["cci_14"]["parameters"] == {"timeperiod": 14}
    assert rows["obv"]["inputs"] == ["close", "volume"]
    assert rows["stoch_5_3_0_3_0"]["outputs"] == ["slowk", "slowd"]


def test_an_empty_list_says_what_there_is() -> None:
    assert "no indicator has 'quux'" in listed("quux")
    assert "anchored_vwap_24_2" in listed("VWAP")


@pytest.mark.usefixtures("_here")
def test_every_door_gives_the_values_of_the_one_function(
    tape: pl.DataFrame, cli: Cli, database: str, connection: Connection
) -> None:
    frame = CandleFrame.from_polars(tape, Timeframe.M1).with_trades(read.trades(database, *PLACE))
    for name in NAMES:
        expected = compute(frame, name)
        assert any(np.isfinite(values).sum() > 20 for values in expected.values())
        given = dt.indicator(name, *PLACE, start=int(frame.timestamp[20]), end=int(frame.timestamp[60]))
        newest = dt.indicator(f"{name}.{next(iter(expected))}", *PLACE, limit=7)
        for output, values in expected.items():
            assert np.array_equal(given[output], values[20:60], equal_nan=True)
            assert np.array_equal(newest[output], values[-7:], equal_nan=True)
    shown = json.loads(said(cli("indicators", "show", name, *OPTIONS, "--limit", "30", "--json")))
    assert [row["close"] for row in shown] == frame.close[-30:].tolist()
    for output, values in expected.items():
        assert [row[output] for row in shown] == known(values[-30:])
    done = json.loads(said(cli("indicators", "compute", name, *OPTIONS, "--json")))
    assert done["written"] == done["candles"] == len(frame)
    rows = connection.execute("SELECT value FROM indicators WHERE name = %s ORDER BY timestamp", (name,))
    assert [value for (value,) in rows] == known(expected["poc"])


def test_the_engine_keeps_what_reads_trades_too(tape: pl.DataFrame, connection: Connection) -> None:
    """It has no trades in its frames, but a connection to read them on."""
    frame = CandleFrame.from_polars(tape, Timeframe.M1)
    wanted = Values(Target(*PLACE, Timeframe.M1), frame, 10, ("volume_profile_5",))
    written = write_indicators(connection, [wanted])
    kept = connection.execute("SELECT name, count(value), count(*) FROM indicators GROUP BY 1").fetchone()
    assert kept == ("volume_profile_5_5", written, len(frame) - 10)
    assert written == len(frame) - 10 > 70


@pytest.mark.usefixtures("_here")
def test_footprints_hold_each_candles_trades(tape: pl.DataFrame) -> None:
    levels = dt.footprint(*PLACE, width=10.0)
    sums = levels.group_by("timestamp").agg(pl.col("bought", "sold").sum(), pl.col("price").diff().min())
    joined = tape.filter(pl.col("trade_count") > 0).join(sums, on="timestamp", how="left")
    assert np.allclose(joined["bought"], joined["buy_volume"])
    assert np.allclose(joined["sold"], joined["sell_volume"])
    assert joined["price"].drop_nulls().min() == 10.0
    assert (levels["price"] % 10 == 0).all()
    assert levels["width"].unique().to_list() == [10.0]
    assert levels["is_buying"].any()
    assert dt.footprint(*PLACE, limit=5)["timestamp"].n_unique() == 5
    assert dt.footprint("okx", "ETH/USDT").is_empty()


@pytest.mark.usefixtures("_here", "connection")
def test_nothing_stored_is_an_empty_frame() -> None:
    assert dt.indicator("macd", *PLACE).columns == ["timestamp", "close", "macd", "signal", "histogram"]
    assert dt.indicator("volume_profile", *PLACE).is_empty()
