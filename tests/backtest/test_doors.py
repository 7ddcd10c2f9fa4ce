import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pytest
from tapes import random_frame

import deltatape as dt
from backtest.doors import backtest
from backtest.frames import candles_of
from backtest.metrics import profile
from market import WrongUse

COUNT = 600


@pytest.fixture
def columns():
    frame = random_frame(COUNT)
    return {"timestamp": frame.timestamp} | {
        name: frame.column(name) for name in ("open", "high", "low", "close", "volume")
    }


class AboveMean:
    """Buys above the mean of twenty closes."""

    cites = ("close", "sma_20")
    policy = {"stop": 0.01}  # noqa: RUF012 - as people write it

    def score(self, values):
        return np.sign(values["close"] - values["sma_20"])

    def reason(self, values):
        return f"close {values['close']:g}"


def as_pandas(columns, zone="UTC"):
    index = pd.to_datetime(columns["timestamp"], unit="us", utc=True).tz_convert(zone)
    return pd.DataFrame({name.title(): columns[name] for name in columns if name != "timestamp"}, index=index)


FORMS = {
    "columns": lambda columns: columns,
    "lists": lambda columns: {name: list(values) for name, values in columns.items()},
    "seconds": lambda columns: columns | {"timestamp": columns["timestamp"] // 1_000_000},
    "milliseconds": lambda columns: columns | {"timestamp": columns["timestamp"] // 1_000},
    "nanoseconds": lambda columns: columns | {"timestamp": columns["timestamp"] * 1_000},
    "array": lambda columns: np.column_stack(list(columns.values())),
    "named array": lambda columns: np.rec.fromarrays(list(columns.values()), names=list(columns)),
    "polars": pl.DataFrame,
    "polars times": lambda columns: pl.DataFrame(columns).with_columns(
        pl.col("timestamp").cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
    ),
    "pandas index": as_pandas,
    "pandas elsewhere": lambda columns: as_pandas(columns, "Asia/Tokyo"),
    "pandas column": lambda columns: as_pandas(columns).rename_axis("Date").reset_index(),
    "texts": lambda columns: columns | {"timestamp": columns["timestamp"].astype("M8[us]").astype(str)},
}


@pytest.mark.parametrize("form", FORMS)
def test_candles_of_any_make_are_the_same(form, columns):
    frame = candles_of(FORMS[form](columns))
    assert str(frame.timeframe) == "1m"
    assert frame.timestamp.tolist() == columns["timestamp"].tolist()
    for name in ("open", "high", "low", "close", "volume"):
        assert frame.column(name).tolist() == columns[name].tolist()


def test_arrays_a_class_and_a_name(columns):
    mean = np.convolve(columns["close"], np.ones(20) / 20)[:COUNT]
    above = columns["close"] > mean
    above[:19] = False
    by_arrays = dt.backtest(columns, above, pl.Series(~above), fee_bps=5, stop=0.01)
    by_class = dt.backtest(as_pandas(columns), AboveMean, fee_bps=5)
    assert by_arrays.metrics.total_trades > 10
    assert by_arrays.setup.account.fee_bps == by_class.setup.account.fee_bps == 5
    assert by_class.setup.policy.stop == 0.01
    assert by_class.setup.strategy.name == "above_mean"
    assert dt.backtest(columns, AboveMean()).setup.config() == dt.backtest(columns, AboveMean).setup.config()
    by_name = dt.backtest(columns, "ema_cross", fast=5, market_type="margin", shorts=True)
    assert by_name.positions["side"].unique().sort().to_list() == ["long", "short"]
    assert repr(by_name) == str(by_name)


def test_entries_alone_are_left_by_what_the_policy_says(columns):
    entries = np.zeros(COUNT, dtype=int)
    entries[[3, 300]] = 1
    result = backtest(columns, entries, target=0.01, stop=0.01)
    assert set(result.positions["exit_reason"]) <= {"stop_loss", "take_profit", "end_of_data"}
    first = result.fills.row(0, named=True)
    assert first["timestamp"].timestamp() * 1e6 == columns["timestamp"][4]
    assert first["price"] == columns["open"][4] * 1.0001


def test_reasons_of_a_live_strategy_are_its_rules(columns):
    reasons = backtest(columns, "trend").reasons
    entries = reasons.filter(pl.col("when") == "entry")
    assert set(entries["reason"]) == {"ema_trend", "directional_trend"}
    exits = reasons.filter(pl.col("when") == "exit")
    assert exits["pnl"].sum() == pytest.approx(backtest(columns, "trend").metrics.total_pnl)


def test_days_and_months_add_up(real_frame):
    result = backtest(real_frame, "ema_cross")
    days, months, metrics = result.days, result.months, result.metrics
    assert days["pnl"].sum() == pytest.approx(metrics.total_pnl, rel=1e-9)
    assert days["positions"].sum() == months["positions"].sum() == metrics.total_trades
    assert days["drawdown"].max() == metrics.max_drawdown == months["drawdown"].max()
    assert (1 + months["return_pct"] / 100).product() - 1 == pytest.approx(metrics.total_return_pct / 100)
    assert days["timestamp"].dt.hour().sum() == 0
    assert result.held.total_return_pct == pytest.approx(metrics.buy_and_hold_pct)


def test_holding_the_market_is_holding_it(real_frame):
    entries = np.zeros(len(real_frame), dtype=bool)
    entries[0] = True
    costless = {"fee_bps": 0, "slippage_bps": 0, "lot": 0, "capital": 1.0}
    result = backtest(real_frame, entries, **costless)
    bought = real_frame.open[1] / real_frame.open[0]
    assert result.held == pytest.approx(profile(1.0, result.record.daily * bought), rel=1e-9)


WRONG = {
    "the column close is missing": lambda c: {name: c[name] for name in c if name != "close"},
    "no column of times": lambda c: {name: c[name] for name in c if name != "timestamp"},
    "row 5 has the same time": lambda c: c | {"timestamp": np.r_[c["timestamp"][:5], c["timestamp"][4:-1]]},
    "sort the candles by time": lambda c: {name: values[::-1] for name, values in c.items()},
    "close is not a number": lambda c: c | {"close": np.r_[c["close"][:7], np.nan, c["close"][8:]]},
    "high lies below low": lambda c: c | {"high": c["low"] * 0.9, "open": c["low"], "close": c["low"]},
    "open or close lies outside": lambda c: c | {"high": c["low"]},
    "low is not above 0": lambda c: c | {"low": -c["low"]},
    "close holds what is no number": lambda c: c | {"close": ["x"] * COUNT},
    "the column open has 3 values": lambda c: c | {"open": [1.0, 2.0, 3.0]},
    "there are no candles": lambda c: {name: values[:0] for name, values in c.items()},
    "say the timeframe of a single candle": lambda c: {name: values[:1] for name, values in c.items()},
    "120 s apart": lambda c: {name: values[::2] for name, values in c.items()},
    "is not one of candles": lambda c: np.ones((5, 3)),
    "cannot be read from int": lambda c: 5,
    "holds no times": lambda c: c | {"timestamp": ["yesterday"] * COUNT},
    "has no time": lambda c: c | {"timestamp": np.full(COUNT, "NaT", dtype="M8[us]")},
    "whole multiples": lambda c: c | {"timestamp": c["timestamp"] + 7},
}


@pytest.mark.parametrize("message", WRONG)
def test_candles_that_cannot_be(message, columns):
    with pytest.raises(WrongUse, match=message):
        backtest(WRONG[message](columns), "ema_cross")


@pytest.mark.parametrize(
    ("strategy", "exits", "options", "message"),
    [
        (np.ones(5, dtype=bool), None, {}, "the entries have 5 values, the candles are 600"),
        (np.zeros(COUNT), np.ones(3), {}, "the exits have 3 values"),
        (np.full(COUNT, np.nan), None, {}, "true or false"),
        (["x"] * COUNT, None, {}, "true or false"),
        (np.ones(COUNT), np.ones(COUNT), {}, "600 candles both enter and leave"),
        ("ema_cross", np.ones(COUNT), {}, "exits belong to entries"),
        ("nope", None, {}, "unknown strategy"),
        (int, None, {}, "int is no strategy: it lacks cites"),
        ("ema_cross", None, {"fats": 3}, "it has fast, slow"),
        ("ema_cross", None, {"market_type": "x"}, "unknown market type"),
        ("ema_cross", None, {"capital": 0}, "capital must be above 0"),
    ],
)
def test_what_makes_no_sense(strategy, exits, options, message, columns):
    with pytest.raises(WrongUse, match=message):
        dt.backtest(columns, strategy, exits, **options)


def test_nothing_is_imported_before_it_is_needed():
    code = """
import sys
import numpy as np
import deltatape as dt
close = 100 + np.sin(np.arange(500))
candles = {"time": np.arange(500) * 60, "open": close, "high": close, "low": close, "close": close}
result = dt.backtest(candles, close > 100.5, close < 99.5)
print(result, result.metrics, result.held, file=sys.stderr)
heavy = ("polars", "pandas", "matplotlib", "plotly", "pyarrow", "talib", "psycopg", "pydantic", "sqlalchemy")
print([name for name in heavy if name in sys.modules])
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=200, check=True
    )
    assert done.stdout == "[]\n"


def test_what_the_page_shows_works(columns, capsys):
    page = (Path(dt.__file__).parent.parent / "docs" / "backtests.md").read_text()
    mean = np.convolve(columns["close"], np.ones(20) / 20)[:COUNT]
    prices = {"timestamp": columns["timestamp"], "price": columns["close"], "size": np.ones(COUNT)}
    names = {"candles": columns, "close": columns["close"], "mean": mean, "trades": prices}
    for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL):
        exec(block, names)
    assert names["result"].setup.values == {"period": 30, "deviations": 2.5}
    assert names["ticks"].setup.account.fee_bps == 40
    assert set(names["ticks"].counts("reason")) >= {"policy", "stop_loss"}
    assert names["both"].symbols == ["BTC/USDT", "ETH/USDT"]
    assert "buy and hold" in capsys.readouterr().out
