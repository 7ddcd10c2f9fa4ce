"""The kernel against the slow reference, and each rule of filling by itself."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference_engine import DAY, Rules, simulate

from backtest.account import Account
from backtest.batch import Candles, Signals, walk
from backtest.kernel import step, submit
from backtest.policies import Policy, follow_signals
from backtest.state import (
    CLOSE,
    END,
    EQUITY_DISAGREES,
    ERRORS,
    LIQUIDITY,
    MARKET,
    MAX_ORDERS,
    OPEN,
    ORDER_KINDS,
    REASONS,
    SIGNAL,
    SOURCES,
    TIME_WENT_BACK,
    TOO_MANY_ORDERS,
    Event,
)
from market.errors import DeltatapeError
from market.instrument import MarketType

MINUTE = 60_000_000


def account_of(rules: Rules) -> Account:
    market = MarketType.SPOT
    if rules.shorts:
        market = MarketType.MARGIN
    if rules.linear:
        market = MarketType.LINEAR
    return Account(
        capital=rules.capital,
        fee_bps=rules.taker * 1e4,
        maker_bps=rules.maker * 1e4,
        slippage_bps=rules.slippage * 1e4,
        lot=float(rules.lot),
        market_type=market,
    )


def state_of(rules: Rules):
    state = account_of(rules).state()
    # Rates through basis points and back may differ in the last bit.
    state["taker"], state["maker"], state["slippage"] = rules.taker, rules.maker, rules.slippage
    return state


def policy_of(rules: Rules):
    policy = Policy(fraction=rules.fraction, stop=rules.stop, target=rules.target, shorts=rules.shorts)
    return policy.record()


def kernel(rules: Rules, times, length, opens, highs, lows, closes, signals):
    candles = Candles(
        np.array(times, dtype=np.int64), *(np.array(x) for x in (opens, highs, lows, closes)), length
    )
    changes = Signals(
        np.array(list(signals), dtype=np.int64), np.array(list(signals.values()), dtype=np.int64)
    )
    return walk(state_of(rules), policy_of(rules), follow_signals, candles, changes, curve=True)


def named(fill) -> tuple:
    return (
        int(fill["timestamp"]),
        int(fill["position"]),
        "buy" if fill["side"] > 0 else "sell",
        ORDER_KINDS[fill["kind"]],
        REASONS[fill["reason"]],
        SOURCES[fill["source"]],
        LIQUIDITY[fill["liquidity"]],
        float(fill["quantity"]),
        float(fill["price"]),
        float(fill["fee"]),
        float(fill["gross"]),
    )


def assert_equal(rules: Rules, *market) -> None:
    expected = simulate(rules, *market)
    record = kernel(rules, *market)
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


@st.composite
def rules(draw) -> Rules:
    shorts = draw(st.booleans())
    return Rules(
        capital=draw(st.sampled_from([10_000.0, 12.34])),
        taker=draw(st.sampled_from([0.0, 0.001, 0.0075])),
        maker=draw(st.sampled_from([0.0, 0.0005])),
        slippage=draw(st.sampled_from([0.0, 0.0001, 0.02])),
        lot=draw(st.sampled_from(["0", "0.001", "0.05", "3"])),
        linear=shorts and draw(st.booleans()),
        fraction=draw(st.sampled_from([1.0, 0.5, 0.33])),
        stop=draw(st.sampled_from([0.0, 0.005, 0.02, 0.5])),
        target=draw(st.sampled_from([0.0, 0.01, 0.03])),
        shorts=shorts,
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
    return times.tolist(), length, *picks, signals


@settings(max_examples=300, deadline=None)
@given(rules(), markets())
def test_agrees_with_the_reference_bit_for_bit(rules, market):
    assert_equal(rules, *market)


@pytest.mark.parametrize(
    ("name", "length"), [("ETH_BTC-5m", 5 * MINUTE), ("UNITTEST_BTC-1m", MINUTE), ("XRP_ETH-1m", MINUTE)]
)
@pytest.mark.parametrize("shorts", [False, True])
def test_agrees_with_the_reference_on_real_candles(shared_data, name, length, shorts):
    table = pl.read_ipc(shared_data / "candles" / f"{name}.feather")
    times = table["date"].dt.timestamp("us").to_list()
    columns = [table[c].to_list() for c in ("open", "high", "low", "close")]
    random = np.random.default_rng(7)
    signals = {i: int(random.integers(-2, 3)) for i in range(len(times)) if random.random() < 0.1}
    rules = Rules(stop=0.01, target=0.02, shorts=shorts, fraction=0.9, lot="0.001")
    assert_equal(rules, times, length, *columns, signals)


@settings(max_examples=30, deadline=None)
@given(rules(), markets())
def test_one_event_at_a_time_gives_the_batch(rules, market):
    times, length, opens, highs, lows, closes, signals = market
    batch = kernel(rules, *market)
    state, policy = state_of(rules), policy_of(rules)
    now = state[0]
    fills = []

    def happen(kind, time, price, high, low, signal=0):
        event = Event(kind, time, price, high, low, signal)
        step(now, event)
        assert now["error"] == 0
        fills.extend(now["fills"][: now["fill_count"]].copy())
        if kind == SIGNAL or now["fill_count"]:
            follow_signals(now, event, policy)
        return now["cash"] + now["quantity"] * (now["mark"] - now["basis"])

    equity = []
    for i, time in enumerate(times):
        happen(OPEN, time, opens[i], opens[i], opens[i])
        close = closes[i]
        equity.append(happen(CLOSE, time + length, close, highs[i], lows[i]))
        if i in signals:
            happen(SIGNAL, time + length, close, close, close, signals[i])
    final = happen(END, times[-1] + length, closes[-1], closes[-1], closes[-1])
    assert np.array(fills, dtype=batch.fills.dtype).tobytes() == batch.fills.tobytes()
    assert final == batch.daily[-1]
    assert batch.events == 2 * len(times) + len(signals) + 1
    highest = np.maximum(np.maximum.accumulate(equity), rules.capital)
    assert batch.drawdown == max(0.0, float(np.max(1.0 - np.array(equity) / highest)))


FLAT = (100.0, 101.0, 99.0, 100.0)


def fills_of(candles, signals, gap=(), **changes):
    """Fills as (minute, price, reason, source) of candles (open, high, low, close) from minute 0 on."""
    rules = Rules(**{"taker": 0.0, "maker": 0.0, "slippage": 0.0, **changes})
    minutes = [i for i in range(len(candles) + len(gap)) if i not in gap]
    times = [minute * MINUTE for minute in minutes]
    columns = [list(column) for column in zip(*candles, strict=True)]
    record = kernel(rules, times, MINUTE, *columns, signals)
    return [
        (int(f["timestamp"]) / MINUTE, float(f["price"]), REASONS[f["reason"]], SOURCES[f["source"]])
        for f in record.fills
    ]


def test_a_signal_fills_at_the_next_open_and_the_end_closes():
    fills = fills_of([FLAT, (103.0, 104.0, 102.0, 102.5)], {0: 1})
    assert fills == [(1, 103.0, "signal", "next_open"), (2, 102.5, "end_of_data", "close")]


def test_a_signal_at_the_last_close_fills_nowhere():
    assert fills_of([FLAT, FLAT], {1: 1}) == []


def test_no_fill_inside_a_hole():
    fills = fills_of([FLAT, FLAT, (90.0, 91.0, 89.0, 90.0)], {0: 1, 1: -1}, gap=(2, 3, 4))
    assert fills[1] == (5, 90.0, "signal", "next_open")


def test_a_stop_touched_inside_a_candle_fills_at_its_price():
    inside = (100.0, 101.0, 98.0, 100.0)
    fills = fills_of([FLAT, FLAT, inside], {0: 1}, stop=0.02)
    assert fills[1] == (pytest.approx(3, abs=1e-6), 98.0, "stop_loss", "candle")
    assert fills[1][0] < 3


def test_a_gap_through_the_stop_fills_at_the_open():
    fills = fills_of([FLAT, FLAT, (95.0, 96.0, 94.0, 95.0)], {0: 1}, stop=0.02)
    assert fills[1] == (2, 95.0, "stop_loss", "candle")


def test_a_stop_inside_a_hole_fills_at_the_first_open_after_it():
    fills = fills_of([FLAT, FLAT, (80.0, 96.0, 80.0, 95.0)], {0: 1}, gap=(2, 3), stop=0.02)
    assert fills[1] == (4, 80.0, "stop_loss", "candle")


def test_a_short_is_the_mirror():
    up = fills_of([FLAT, FLAT, (105.0, 106.0, 104.0, 105.0)], {0: -1}, stop=0.02, shorts=True)
    assert up[1] == (2, 105.0, "stop_loss", "candle")
    down = fills_of([FLAT, FLAT, (100.0, 101.0, 97.9, 99.0)], {0: -1}, target=0.02, shorts=True)
    assert down[1][1:] == (98.0, "take_profit", "candle")


def test_a_target_touched_is_not_filled():
    touched = (100.0, 102.0, 99.5, 101.0)
    assert fills_of([FLAT, FLAT, touched], {0: 1}, target=0.02)[1][2] == "end_of_data"
    through = (100.0, 102.01, 99.5, 101.0)
    assert fills_of([FLAT, FLAT, through], {0: 1}, target=0.02)[1][1:3] == (102.0, "take_profit")


def test_a_gap_through_the_target_gives_no_better_price():
    fills = fills_of([FLAT, FLAT, (110.0, 111.0, 109.0, 110.0)], {0: 1}, target=0.02)
    assert fills[1] == (2, 102.0, "take_profit", "candle")


def test_stop_and_target_in_one_candle_is_the_stop():
    both = (100.0, 103.0, 97.0, 100.0)
    fills = fills_of([FLAT, FLAT, both], {0: 1}, stop=0.02, target=0.02)
    assert fills[1][1:] == (98.0, "stop_loss", "candle_pessimistic")


def test_the_candle_of_the_entry_can_stop_it():
    fills = fills_of([FLAT, (100.0, 101.0, 97.0, 100.0)], {0: 1}, stop=0.02)
    assert fills[1][1:3] == (98.0, "stop_loss")


def test_a_stop_that_slippage_put_above_the_market_fills_at_the_market():
    # Bought at 102 with the market at 100: the stop at 100.98 is behind it already.
    candles = [FLAT, (100.0, 100.5, 99.5, 100.0), FLAT]
    fills = fills_of(candles, {0: 1}, slippage=0.02, stop=0.01)
    assert fills[1][1] == 100.0 * (1.0 - 0.02)


def test_a_short_whose_equity_is_gone_is_liquidated():
    doubled = (100.0, 250.0, 100.0, 240.0)
    fills = fills_of([FLAT, FLAT, doubled], {0: -1}, shorts=True)
    assert fills[1][1:] == (200.0, "liquidation", "candle")


def test_after_ruin_nothing_is_bought():
    gapped = (300.0, 301.0, 299.0, 300.0)
    rules = Rules(shorts=True, taker=0.0, slippage=0.0)
    columns = [list(c) for c in zip(FLAT, FLAT, gapped, gapped, strict=True)]
    times = [0, MINUTE, 2 * MINUTE, 3 * MINUTE]
    record = kernel(rules, times, MINUTE, *columns, {0: -1, 2: 1})
    assert record.daily[-1] == -10_000.0
    assert record.rejected == 1


def test_quantity_is_rounded_down_to_the_lot():
    rules = Rules(capital=1_000.0, lot="0.1", taker=0.0, slippage=0.0)
    columns = [list(c) for c in zip((3.0,) * 4, (3.0,) * 4, strict=True)]
    record = kernel(rules, [0, MINUTE], MINUTE, *columns, {0: 1})
    assert record.fills["quantity"].tolist() == [333.3, 333.3]


def test_less_than_a_lot_is_rejected():
    rules = Rules(capital=2.0, lot="1")
    columns = [list(c) for c in zip((3.0,) * 4, (3.0,) * 4, strict=True)]
    record = kernel(rules, [0, MINUTE], MINUTE, *columns, {0: 1})
    assert (len(record.fills), record.rejected) == (0, 1)


def test_fees_take_the_side_of_the_liquidity():
    rules = Rules(capital=1_000.0, taker=0.001, maker=0.0002, slippage=0.0, target=0.01)
    up = (100.0, 105.0, 100.0, 104.0)
    columns = [list(c) for c in zip((100.0,) * 4, up, strict=True)]
    entry, exit_ = kernel(rules, [0, MINUTE], MINUTE, *columns, {0: 1}).fills
    assert entry["fee"] == entry["quantity"] * 100.0 * 0.001
    assert exit_["fee"] == entry["quantity"] * 101.0 * 0.0002
    assert LIQUIDITY[exit_["liquidity"]] == "maker"


def test_extremes_do_not_count_what_came_after_the_exit():
    wide = (100.0, 150.0, 50.0, 100.0)
    rules = Rules(taker=0.0, slippage=0.0, stop=0.02)
    columns = [list(c) for c in zip(FLAT, FLAT, wide, strict=True)]
    record = kernel(rules, [0, MINUTE, 2 * MINUTE], MINUTE, *columns, {0: 1})
    exit_ = record.fills[1]
    assert (exit_["high"], exit_["low"], exit_["stop"], exit_["target"]) == (101.0, 98.0, 98.0, 0.0)


def test_time_never_goes_back():
    state = Account().state()
    step(state[0], Event(OPEN, 10, 1.0, 1.0, 1.0, 0))
    step(state[0], Event(CLOSE, 9, 1.0, 1.0, 1.0, 0))
    assert state["error"][0] == TIME_WENT_BACK


@pytest.mark.parametrize("field", ["cash", "realised", "fees"])
def test_books_that_disagree_are_an_error(field):
    state = Account().state()
    state[field] += 0.01
    step(state[0], Event(OPEN, 10, 1.0, 1.0, 1.0, 0))
    assert state["error"][0] == EQUITY_DISAGREES


def test_orders_are_bounded():
    state = Account().state()
    for _ in range(MAX_ORDERS):
        submit(state[0], MARKET, 1, 0, 0, 0.0, 1.0)
        assert state["error"][0] == 0
    submit(state[0], MARKET, 1, 0, 0, 0.0, 1.0)
    assert state["error"][0] == TOO_MANY_ORDERS


def test_a_second_entry_is_rejected_while_the_first_is_open():
    state = Account().state()
    for _ in range(2):
        submit(state[0], MARKET, 1, 0, 0, 0.0, 0.5)
    step(state[0], Event(OPEN, 10, 1.0, 1.0, 1.0, 0))
    assert (state["fill_count"][0], state["rejected"][0]) == (1, 1)


def test_a_broken_candle_stops_the_batch_with_its_reason():
    candles = Candles(np.array([MINUTE, 0]), *[np.ones(2)] * 4, MINUTE)
    none = Signals(np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64))
    with pytest.raises(DeltatapeError, match=ERRORS[TIME_WENT_BACK]):
        walk(Account().state(), Policy().record(), follow_signals, candles, none, curve=False)
