"""The kernel against the slow reference, and each rule of filling by itself."""

import os
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pair import named, state_of
from reference import Rules, Terms
from reference_walk import DAY, Plan, simulate

from backtest.account import Account
from backtest.batch import Candles, Signals, walk
from backtest.exits import recheck
from backtest.kernel import step
from backtest.orders import submit
from backtest.policies import Policy, follow_signals
from backtest.state import (
    CLOSE,
    END,
    EQUITY_DISAGREES,
    ERRORS,
    MARKET,
    MAX_ORDERS,
    OPEN,
    SIGNAL,
    TIME_WENT_BACK,
    TOO_MANY_ORDERS,
    Event,
)
from market.errors import DeltatapeError

MINUTE = 60_000_000
# `make soak` sets it to thousands.
CASES = int(os.environ.get("DELTATAPE_ENGINE_CASES", "100"))


def policy_of(plan: Plan):
    words = vars(plan) | {"cooldown": plan.cooldown / 1e6, "every": plan.every / 1e6}
    return Policy(**words).record()


def kernel(rules: Rules, plan: Plan, times, length, opens, highs, lows, closes, volumes, signals):
    candles = Candles(
        np.array(times, dtype=np.int64),
        *(np.array(x) for x in (opens, highs, lows, closes)),
        length,
        np.array(volumes),
    )
    changes = Signals(
        np.array(list(signals), dtype=np.int64), np.array(list(signals.values()), dtype=np.int64)
    )
    return walk(state_of(rules), policy_of(plan), candles, changes, curve=True)


def assert_equal(rules: Rules, plan: Plan, *market) -> list[dict]:
    """The walk gives what the reference gives; its fills."""
    expected = simulate(rules, plan, *market)
    record = kernel(rules, plan, *market)
    assert [named(fill) for fill in record.fills] == expected.fills
    assert record.timestamp.tolist() == list(expected.curve)
    points = list(zip(record.cash.tolist(), record.value.tolist(), strict=True))
    assert points == list(expected.curve.values())
    first, last = min(expected.daily), max(expected.daily)
    carried, value = [], None
    for day in range(first, last + 1):
        value = expected.daily.get(day, value)
        carried.append(value)
    assert record.daily.tolist() == carried
    assert record.rejected == expected.rejected
    assert record.closes == len(expected.closes)
    peaks = np.maximum(np.maximum.accumulate(expected.closes), rules.capital)
    assert record.drawdown == max(0.0, float(np.max(1.0 - np.array(expected.closes) / peaks)))
    return expected.fills


@st.composite
def rules(draw) -> Rules:
    shorts = draw(st.booleans())
    linear = shorts and draw(st.booleans())
    terms = Terms(
        taker=draw(st.sampled_from([0.0, 0.001, 0.0075])),
        maker=draw(st.sampled_from([0.0, 0.0005])),
        slippage=draw(st.sampled_from([0.0, 0.0001, 0.02])),
        lot=draw(st.sampled_from(["0", "0.001", "0.05", "3"])),
        tick=draw(st.sampled_from(["0", "0", "0.01"])),
    )
    return Rules(
        capital=draw(st.sampled_from([10_000.0, 12.34])),
        linear=linear,
        shorts=shorts,
        leverage=draw(st.sampled_from([1.0, 5.0])) if linear else 1.0,
        participation=draw(st.sampled_from([0.0, 0.0, 0.2])),
        order=draw(st.sampled_from([0, 0, 1, 10 * MINUTE])),
        terms=(terms,),
    )


@st.composite
def plans(draw) -> Plan:
    plan = draw(st.sampled_from(["signals", "signals", "signals", "grid", "dca"]))
    return Plan(
        plan=plan,
        fraction=draw(st.sampled_from([1.0, 0.5, 0.33])),
        quantity=draw(st.sampled_from([0.0, 0.0, 1.5])),
        volatility=draw(st.sampled_from([0.0, 0.0, 0.3])),
        span=draw(st.sampled_from([2, 20])),
        stop=draw(st.sampled_from([0.0, 0.005, 0.02, 0.5])),
        target=draw(st.sampled_from([0.0, 0.01, 0.03])),
        trail=draw(st.sampled_from([0.0, 0.0, 0.02])),
        trail_on_close=draw(st.booleans()),
        daily_loss=draw(st.sampled_from([0.0, 0.0, 0.01])),
        daily_target=draw(st.sampled_from([0.0, 0.0, 0.02])),
        most_trades=draw(st.sampled_from([0, 0, 2])),
        cooldown=draw(st.sampled_from([0, 0, 20 * MINUTE])),
        amount=700.0,
        every=45 * MINUTE,
        levels=4,
        step=0.01,
    )


@st.composite
def markets(draw):
    seed = draw(st.integers(0, 2**32 - 1))
    count = draw(st.integers(1, 120))
    length = draw(st.sampled_from([MINUTE, 15 * MINUTE, DAY]))
    spread = draw(st.sampled_from([0.001, 0.01, 0.2]))
    ticks = draw(st.booleans())
    random = np.random.default_rng(seed)
    close = 100.0 * np.exp(np.cumsum(random.normal(0, spread, count)))
    open_ = np.concatenate([[100.0], close[:-1]]) * np.exp(random.normal(0, spread / 4, count))
    if ticks:
        # Coarse prices make touched levels and equal prices common.
        close, open_ = np.maximum(np.round(close), 1.0), np.maximum(np.round(open_), 1.0)
    wick = np.abs(random.normal(0, spread, (2, count)))
    high, low = np.maximum(open_, close) * (1 + wick[0]), np.minimum(open_, close) / (1 + wick[1])
    kept = random.random(count) > draw(st.sampled_from([0.0, 0.3]))
    kept[0] = True
    times = (np.flatnonzero(kept) + random.integers(0, 3_000)) * length
    picks = (series[kept].tolist() for series in (open_, high, low, close))
    number = int(kept.sum())
    signals = {i: int(random.integers(-2, 3)) for i in range(number) if random.random() < 0.3}
    return times.tolist(), length, *picks, random.uniform(0, 100, number).tolist(), signals


@settings(max_examples=2 * CASES, deadline=None)
@given(rules(), plans(), markets())
def test_the_walk_agrees_with_the_reference_bit_for_bit(rules, plan, market):
    plan.shorts = rules.shorts
    assert_equal(rules, plan, *market)


@settings(max_examples=CASES, deadline=None)
@given(rules(), plans(), markets())
def test_orders_that_only_turn_a_position_fill_as_in_the_reference(rules, plan, market):
    # A signal and the open after it are one step then; the one that is liquidated at it is none.
    rules = replace(rules, participation=0.0, order=0, maintenance=0.19 if rules.leverage > 1.0 else 0.0)
    assert_equal(rules, Plan(fraction=plan.fraction, quantity=plan.quantity, shorts=rules.shorts), *market)


@pytest.mark.parametrize(
    ("name", "length"), [("ETH_BTC-5m", 5 * MINUTE), ("UNITTEST_BTC-1m", MINUTE), ("XRP_ETH-1m", MINUTE)]
)
@pytest.mark.parametrize("shorts", [False, True])
def test_the_walk_agrees_with_the_reference_on_real_candles(shared_data, name, length, shorts):
    table = pl.read_ipc(shared_data / "candles" / f"{name}.feather")
    times = table["date"].dt.timestamp("us").to_list()
    columns = [table[c].to_list() for c in ("open", "high", "low", "close", "volume")]
    random = np.random.default_rng(7)
    signals = {i: int(random.integers(-2, 3)) for i in range(len(times)) if random.random() < 0.1}
    terms = Terms(taker=0.001, maker=0.0005, slippage=0.0001, lot="0.001")
    plan = Plan(stop=0.01, target=0.02, shorts=shorts, fraction=0.9)
    fills = assert_equal(Rules(shorts=shorts, terms=(terms,)), plan, times, length, *columns, signals)
    assert len(fills) > 100


@settings(max_examples=30, deadline=None)
@given(rules(), plans(), markets())
def test_one_event_at_a_time_gives_the_batch(rules, plan, market):
    plan.shorts = rules.shorts
    times, length, opens, highs, lows, closes, volumes, signals = market
    batch = kernel(rules, plan, *market)
    state, policy = state_of(rules), policy_of(plan)
    now = state[0]
    fills, events = [], 0
    if policy["wakes"]:
        now["wake_at"] = 0

    def fill():
        assert now["error"] == 0
        fills.extend(now["fills"][: now["fill_count"]].copy())
        return now["fill_count"]

    def happen(kind, time, price, high, low, signal=0, size=0.0):
        nonlocal events
        events += 1
        event = Event(kind, 0, time, time - length * (kind == CLOSE), price, high, low, size, signal, 0)
        step(now, event)
        filled = fill()
        if kind == SIGNAL or filled or time >= now["wake_at"]:
            follow_signals(now, event, policy)
        if filled and kind == CLOSE:
            recheck(now)
            if fill():
                follow_signals(now, event, policy)

    for i, time in enumerate(times):
        happen(OPEN, time, opens[i], opens[i], opens[i], size=volumes[i])
        close = closes[i]
        happen(CLOSE, time + length, close, highs[i], lows[i])
        if i in signals:
            happen(SIGNAL, time + length, close, close, close, signals[i])
    step(now, Event(END, 0, times[-1] + length, 0, closes[-1], 0.0, 0.0, 0.0, 0, 0))
    fill()
    assert np.array(fills, dtype=batch.fills.dtype).tobytes() == batch.fills.tobytes()
    assert now["cash"] == batch.daily[-1]
    assert batch.events == events + 1


FLAT = (100.0, 101.0, 99.0, 100.0)


def test_extremes_do_not_count_what_came_after_the_exit():
    wide = (100.0, 150.0, 50.0, 100.0)
    columns = [list(c) for c in zip(FLAT, FLAT, wide, strict=True)]
    times = [0, MINUTE, 2 * MINUTE]
    record = kernel(Rules(), Plan(stop=0.02), times, MINUTE, *columns, [1.0] * 3, {0: 1})
    exit_ = record.fills[1]
    assert (exit_["high"], exit_["low"], exit_["stop"], exit_["target"]) == (101.0, 98.0, 98.0, 0.0)


def test_time_never_goes_back():
    state = Account().state()
    step(state[0], Event(OPEN, 0, 10, 10, 1.0, 1.0, 1.0, 0.0, 0, 0))
    step(state[0], Event(CLOSE, 0, 9, 9, 1.0, 1.0, 1.0, 0.0, 0, 0))
    assert state["error"][0] == TIME_WENT_BACK


@pytest.mark.parametrize("field", ["cash", "realised", "fees"])
def test_books_that_disagree_are_an_error(field):
    state = Account().state()
    state[field] += 0.01
    step(state[0], Event(OPEN, 0, 10, 10, 1.0, 1.0, 1.0, 0.0, 0, 0))
    assert state["error"][0] == EQUITY_DISAGREES


def test_orders_are_bounded():
    state = Account().state()
    for _ in range(MAX_ORDERS):
        submit(state[0], 0, MARKET, 1, 0, 0, 0.0, 0, 1.0)
        assert state["error"][0] == 0
    submit(state[0], 0, MARKET, 1, 0, 0, 0.0, 0, 1.0)
    assert state["error"][0] == TOO_MANY_ORDERS


def test_a_broken_candle_stops_the_batch_with_its_reason():
    candles = Candles(np.array([MINUTE, 0]), *[np.ones(2)] * 4, MINUTE)
    none = Signals(np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64))
    with pytest.raises(DeltatapeError, match=ERRORS[TIME_WENT_BACK]):
        walk(Account().state(), Policy().record(), candles, none, curve=False)
