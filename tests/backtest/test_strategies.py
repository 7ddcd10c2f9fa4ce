from itertools import pairwise

import numpy as np
import polars as pl
import pytest
import talib
from tapes import random_frame

from backtest import strategies
from backtest.strategies import find
from market import Timeframe, WrongUse
from signals.engine import evaluate
from signals.frame import CandleFrame
from signals.higher import resampled
from signals.rows import changes
from signals.strategies import shipped


def signals_of(name, frame, **given):
    strategy = find(name)
    found = strategy.signals(frame, strategy.parameters(given))
    return list(zip(found.candle.tolist(), found.kind.tolist(), strict=True))


def plain_ema(values, period):
    ema, weight = [values[0]], 2.0 / (period + 1)
    for value in values[1:]:
        ema.append(weight * value + (1.0 - weight) * ema[-1])
    return ema


def test_ema_crosses_where_the_averages_pass_each_other(real_frame):
    close = real_frame.close.tolist()
    fast, slow = plain_ema(close, 12), plain_ema(close, 26)
    expected, trend = [], 0
    for i in range(25, len(close)):
        now = (fast[i] > slow[i]) - (fast[i] < slow[i])
        if trend and now == -trend:
            expected.append((i, now))
        trend = now or trend
    assert signals_of("ema_cross", real_frame) == expected
    assert len(expected) > 200


@pytest.mark.parametrize("decimals", [0, 6])
def test_many_sets_of_parameters_share_what_they_can_and_signal_as_each_alone(decimals):
    whole = random_frame(2_000)
    kept = np.random.default_rng(3).random(2_000) > 0.01
    table = pl.DataFrame({name: whole.column(name)[kept] for name in ("open", "high", "low", "volume")})
    # Rounded closes make averages that touch.
    table = table.with_columns(timestamp=whole.timestamp[kept], close=whole.close[kept].round(decimals))
    frame = CandleFrame.from_polars(table, Timeframe.M1)
    strategy = find("ema_cross")
    signals_over, found = strategy.over(frame), 0
    for fast, slow in ((1, 2), (1, 9), (5, 9), (5, 40), (5, 1_999)):
        values = strategy.parameters({"fast": fast, "slow": slow})
        shared, alone = signals_over(values), strategy.signals(frame, values)
        assert shared.candle.tolist() == alone.candle.tolist()
        assert shared.kind.tolist() == alone.kind.tolist()
        found += len(alone.candle)
    assert found > 500


def wilder_rsi(close, period):
    changes_ = [b - a for a, b in pairwise(close)]
    gain = sum(max(c, 0.0) for c in changes_[:period]) / period
    loss = sum(max(-c, 0.0) for c in changes_[:period]) / period
    rsi = [None] * period + [100.0 * gain / (gain + loss)]
    for change in changes_[period:]:
        gain = (gain * (period - 1) + max(change, 0.0)) / period
        loss = (loss * (period - 1) + max(-change, 0.0)) / period
        rsi.append(100.0 * gain / (gain + loss))
    return rsi


def test_rsi_reversals_are_those_of_wilders_formula(real_frame):
    rsi = talib.RSI(real_frame.close, 14)
    assert wilder_rsi(real_frame.close.tolist(), 14)[14:] == pytest.approx(rsi[14:].tolist(), rel=1e-9)
    expected = []
    for i in range(15, len(rsi)):
        if rsi[i - 1] <= 30.0 < rsi[i]:
            expected.append((i, 1))
        elif rsi[i - 1] >= 70.0 > rsi[i]:
            expected.append((i, -1))
    assert signals_of("rsi_reversal", real_frame) == expected
    assert len(expected) > 50


def test_a_market_that_does_not_move_gives_no_signal():
    frame = random_frame(200)
    for name in ("open", "high", "low", "close"):
        frame.column(name)[:] = 5.0
    assert signals_of("rsi_reversal", frame) == []
    assert signals_of("ema_cross", frame) == []


@pytest.mark.parametrize("name", ["ema_cross", "rsi_reversal"])
def test_each_stretch_without_a_hole_is_computed_by_itself(name, holey_frame):
    edges = np.flatnonzero(np.diff(holey_frame.timestamp) != Timeframe.M1.microseconds) + 1
    bounds = [0, *edges.tolist(), len(holey_frame)]
    apart = []
    for start, stop in pairwise(bounds):
        part = signals_of(name, holey_frame.part(start, stop))
        apart += [(start + candle, kind) for candle, kind in part]
    assert signals_of(name, holey_frame) == apart
    assert len(edges) > 100


# Plans give orders, not signals; order_flow needs trades.
WITHOUT_SIGNALS = {"dca", "grid", "order_flow"}


@pytest.mark.parametrize("name", [name for name in strategies.names() if name not in WITHOUT_SIGNALS])
def test_no_signal_knows_the_future(name):
    frame = random_frame(1_200, seed=4)
    frame.buy_volume[:] = frame.volume * np.random.default_rng(2).uniform(0, 1, len(frame))
    frame.sell_volume[:] = frame.volume - frame.buy_volume
    whole = signals_of(name, frame)
    known = signals_of(name, frame.part(0, 800))
    assert known == [(candle, kind) for candle, kind in whole if candle < 800]
    assert len(known) > 3


def test_a_live_strategy_trades_the_changes_that_live_signals_store(real_frame):
    strategy = shipped("composite")
    higher = {each: resampled(real_frame, each) for each in strategy.confirm}
    types = evaluate(strategy, real_frame, higher=higher).type
    where = changes(types, None)
    assert signals_of("composite", real_frame) == [(i, int(types[i])) for i in where]


def test_a_live_strategys_parameters_can_be_set(real_frame):
    assert signals_of("trend", real_frame, **{"ema_trend.fast": 5}) != signals_of("trend", real_frame)


def test_unknown_names_are_said():
    with pytest.raises(WrongUse, match=r"unknown strategy 'nope'.*composite, cvd_divergence, dca, ema_cross"):
        find("nope")
    with pytest.raises(WrongUse, match=r"ema_cross has no parameter 'fats': it has fast, slow"):
        find("ema_cross").parameters({"fats": 3})
    with pytest.raises(WrongUse, match="has no parameter"):
        find("composite").parameters({"ema_trend.fats": 3})


@pytest.mark.parametrize(
    ("name", "given", "message"),
    [
        ("ema_cross", {"fast": 30}, "below slow"),
        ("ema_cross", {"fast": 0}, "at least 1"),
        ("ema_cross", {"fast": 2.5}, "whole number"),
        ("rsi_reversal", {"low": 70, "high": 30}, "low < high"),
        ("rsi_reversal", {"period": 0}, "at least 1"),
    ],
)
def test_values_that_make_no_sense_are_refused(name, given, message):
    with pytest.raises(WrongUse, match=message):
        find(name).parameters(given)


def test_parameters_take_their_defaults_kind():
    assert find("rsi_reversal").parameters({"low": 25, "period": 7.0}) == {
        "period": 7,
        "low": 25.0,
        "high": 70.0,
    }


def test_every_listed_strategy_is_found():
    assert strategies.names() == [
        "bollinger",
        "composite",
        "cvd_divergence",
        "dca",
        "ema_cross",
        "grid",
        "mean_reversion",
        "momentum",
        "order_flow",
        "rsi_reversal",
        "trend",
    ]
    assert [find(name).name for name in strategies.names()] == strategies.names()


def test_frames_of_other_intervals(shared_data):
    table = pl.read_ipc(shared_data / "candles" / "XRP_ETH-1m.feather")
    table = table.with_columns(pl.col("date").dt.cast_time_unit("us").alias("timestamp"))
    sparse = CandleFrame.from_polars(table, Timeframe.M1)
    assert all(
        np.diff(sparse.timestamp)[candle - 26 : candle].max() == 60_000_000
        for candle, _ in signals_of("ema_cross", sparse)
    )
