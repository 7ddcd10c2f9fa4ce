"""Merged tapes: their order, what decides inside a candle, and the walk over them."""

import numba
import numpy as np
import pytest
from pair import state_of
from reference import Rules, Terms
from tapes import random_frame

from backtest.batch import Candles, Signals, walk
from backtest.compiled import compiled
from backtest.entries import settle
from backtest.exits import recheck
from backtest.feeds import Source, columns
from backtest.kernel import step
from backtest.merged import walk_tape
from backtest.orders import submit
from backtest.policies import Policy, follow_signals, on_event_type
from backtest.portfolio import walk_sources
from backtest.setup import setup
from backtest.state import (
    AT_CLOSE,
    BOOK,
    CANDLE,
    CLOSE,
    END,
    FUNDING,
    LOWER_TIMEFRAME,
    MARKET,
    OPEN,
    SIGNAL,
    TRADE,
    Event,
)
from backtest.tape import Books, Feed, Funding, Trades, merge
from market import WrongUse

MINUTE = 60_000_000
SECOND = 1_000_000
KINDS = ["close", "funding", "signal", "book", "trade", "depth", "open", "delisted", "end"]


def candles_of(*rows, length=MINUTE, begin=0):
    columns = [np.array(column, dtype=np.float64) for column in zip(*rows, strict=True)]
    times = begin + np.arange(len(rows), dtype=np.int64) * length
    return Candles(times, *columns, length)


def trades_of(*rows):
    time, price = zip(*rows, strict=True)
    return Trades(np.array(time, dtype=np.int64), np.array(price), np.ones(len(rows)))


def signals_of(frame, seed=3, share=0.05):
    random = np.random.default_rng(seed)
    where = np.flatnonzero(random.random(len(frame)) < share)
    return Signals(where, random.integers(-2, 3, len(where)))


def equal(one, two):
    assert one.fills.tobytes() == two.fills.tobytes()
    assert one.daily.tolist() == two.daily.tolist()
    assert (one.fees, one.rejected, one.held, one.events) == (two.fees, two.rejected, two.held, two.events)


def rules(count=1, **more):
    terms = (Terms(taker=0.001, maker=0.0002, slippage=0.0001, lot="0.001"),) * count
    return Rules(terms=terms, **more)


POLICY = Policy(stop=0.004, target=0.006, trail=0.01, fraction=0.5)


@pytest.mark.parametrize("policy", [POLICY, Policy(fraction=0.5)])
@pytest.mark.parametrize("repeats", [1, 2])
def test_candles_alone_give_what_the_plain_walk_gives(policy, repeats):
    frame = random_frame()
    found = signals_of(frame)
    # What a candle said first is not traded if it says something else after that.
    kinds = np.repeat(found.kind, repeats) * np.resize([-1, 1][-repeats:], repeats * len(found.kind))
    signals = Signals(np.repeat(found.candle, repeats), kinds)
    plain = walk(state_of(rules()), policy.record(), columns(frame), signals, curve=True)
    tape = merge([Feed(columns(frame), signals)])
    merged = walk_tape(state_of(rules()), policy.record(), follow_signals, tape, curve=True)
    equal(plain, merged)
    assert plain.timestamp.tolist() == merged.timestamp.tolist()
    assert (plain.cash + plain.value).tolist() == (merged.cash + merged.value).tolist()
    assert plain.drawdown == merged.drawdown
    assert len(plain.fills) > 50


def test_a_curve_that_was_not_kept_is_made_when_asked_for():
    frame, wanted = random_frame(), setup("ema_cross", {"fast": 3, "slow": 8, "stop": 0.002})
    signals = signals_of(frame)
    record = walk_sources(wanted, [Source("", frame)], [signals], curve=True)
    made = record.with_curve()
    kept = walk(wanted.account.state(), wanted.policy.record(), columns(frame), signals, curve=True)
    equal(record, made)
    equal(made, kept)
    for name in ("timestamp", "cash", "value"):
        assert getattr(made, name).tolist() == getattr(kept, name).tolist()
    assert not len(record.timestamp)
    assert len(made.timestamp) > len(frame)


def order(tape):
    return [
        (KINDS[k], int(i), int(t)) for k, i, t in zip(tape.kind, tape.instrument, tape.timestamp, strict=True)
    ]


def test_the_order_at_one_instant():
    candles = candles_of((1.0,) * 4, (1.0,) * 4)
    at = np.array([MINUTE])
    side = np.ones((1, 2, 3))
    one = np.ones(1)
    feed = Feed(
        candles,
        Signals(np.array([0]), np.array([1])),
        books=Books(at, side, side),
        funding=Funding(at, one, one),
        trades=trades_of((10, 1.0), (MINUTE, 1.0)),
        delisted=2 * MINUTE,
    )
    found = [entry for entry in order(merge([feed, feed])) if entry[2] == MINUTE]
    kinds = ["close", "funding", "signal", "book", "trade", "open"]
    assert found == [(kind, number, MINUTE) for kind in kinds for number in (0, 1)]


def sources(tape):
    return tape.source[tape.kind == CLOSE].tolist()


def test_trades_decide_where_they_reach_high_and_low():
    candles = candles_of((100.0, 103.0, 97.0, 100.0), (100.0, 103.0, 97.0, 100.0))
    inside = [(0, 100.0), (1, 103.0), (2, 97.0), (3, 100.0)]
    trades = trades_of(*inside, *((MINUTE + t, p) for t, p in inside if p != 97.0))
    tape = merge([Feed(candles, trades=trades)])
    assert sources(tape) == [AT_CLOSE, CANDLE]
    assert int((tape.kind == TRADE).sum()) == 4


def test_else_finer_candles_decide_where_they_are_whole():
    row = (100.0, 103.0, 97.0, 100.0)
    main = candles_of(row, row, length=2 * MINUTE)
    whole = candles_of((100.0, 103.0, 99.0, 99.0), (99.0, 101.0, 97.0, 100.0), row)
    tape = merge([Feed(main, finer=whole)])
    assert sources(tape) == [LOWER_TIMEFRAME, LOWER_TIMEFRAME, AT_CLOSE, CANDLE]
    opens = tape.source[tape.kind == OPEN].tolist()
    assert opens == [CANDLE, LOWER_TIMEFRAME, LOWER_TIMEFRAME, CANDLE]


def test_what_decides_inside_a_candle_fills():
    row = (100.0, 100.5, 99.5, 100.0)
    both = (100.0, 103.0, 97.0, 100.0)
    candles = candles_of(row, row, both)
    policy = Policy(stop=0.02, target=0.02, fraction=0.5)
    signals = Signals(np.array([0]), np.array([1]))

    def exit_of(**more):
        tape = merge([Feed(candles, signals, **more)])
        record = walk_tape(state_of(Rules()), policy.record(), follow_signals, tape, curve=True)
        return float(record.fills[1]["price"]), int(record.fills[1]["source"])

    assert exit_of() == (98.0, 1)
    begin = 2 * MINUTE
    inside = [(begin, 100.0), (begin + 1, 103.0), (begin + 2, 97.0), (begin + 3, 100.0)]
    assert exit_of(trades=trades_of(*inside)) == (102.0, 4)
    fine = candles_of(
        (100.0, 103.0, 99.5, 100.0), (100.0, 100.0, 97.0, 100.0), length=30 * SECOND, begin=begin
    )
    assert exit_of(finer=fine) == (102.0, 5)


def random_feed(seed, delisted=None):
    """Candles of which some hold trades and some finer candles, with books and funding."""
    random = np.random.default_rng(seed)
    count = 400
    price = np.round(100.0 * np.exp(np.cumsum(random.normal(0, 0.002, 4 * count))), 2)
    time = 15 * SECOND * np.arange(4 * count)
    kept = random.random(4 * count) > 0.02
    quarter = price.reshape(count, 4)
    main = candles_of(*zip(quarter[:, 0], quarter.max(1), quarter.min(1), quarter[:, 3], strict=True))
    main = main._replace(volume=random.uniform(1, 5, count))
    fine = candles_of(*zip(price, price, price, price, strict=True), length=15 * SECOND)
    early = kept & (time < 200 * MINUTE)
    sides = np.zeros((50, 2, 2))
    sides[:, 1] = random.uniform(1, 5, (50, 2))
    bids, asks = sides.copy(), sides.copy()
    moments = np.sort(random.choice(4 * count, 50, replace=False))
    for level in range(2):
        bids[:, 0, level] = price[moments] - 0.01 * (level + 1)
        asks[:, 0, level] = price[moments] + 0.01 * (level + 1)
    signals = Signals(np.arange(0, count, 7), random.integers(-2, 3, len(range(0, count, 7))))
    return Feed(
        main,
        signals,
        confidence=random.integers(0, 3, len(signals.kind)).astype(np.float64),
        trades=Trades(time[early], price[early], random.uniform(0.1, 2.0, int(early.sum()))),
        finer=fine,
        books=Books(time[moments] + 1, bids, asks),
        funding=Funding(np.array([480 * MINUTE // 2]), np.array([0.001]), np.zeros(1)),
        delisted=delisted,
    )


def stepped(state, policy, tape):
    """The walk in Python, one event after the other."""
    now, fills = state[0], []
    if policy["wakes"]:
        now["wake_at"] = 0

    def heard(event, always=False):
        assert now["error"] == 0
        fills.extend(now["fills"][: now["fill_count"]].copy())
        if now["fill_count"] or always:
            follow_signals(now, event, policy)
        return now["fill_count"]

    count = len(tape.kind)
    for i in range(count):
        fields = [column[i].item() for column in tape[:10]]
        event = Event(*fields)
        if event.kind == BOOK:
            one = now["instruments"][event.instrument]
            one["bids"], one["asks"] = tape.bids[tape.book[i]], tape.asks[tape.book[i]]
        step(now, event)
        if heard(event, event.kind == SIGNAL or event.timestamp >= now["wake_at"]) and event.kind == CLOSE:
            recheck(now)
            heard(event)
        last = i + 1 == count or (tape.timestamp[i + 1], tape.kind[i + 1]) != (event.timestamp, event.kind)
        if last and now["due_count"]:
            now["fill_count"] = 0
            settle(now)
            if heard(event) and event.kind == CLOSE:
                recheck(now)
                heard(event)
    step(now, Event(END, 0, int(now["timestamp"]), 0, 0.0, 0.0, 0.0, 0.0, 0, 0))
    fills.extend(now["fills"][: now["fill_count"]].copy())
    return fills


@pytest.mark.parametrize(
    ("count", "more", "policy"),
    [
        (1, {}, {}),
        (3, {}, {"daily_loss": 0.01, "trail": 0.004}),
        (3, {"linear": True, "shorts": True, "leverage": 4.0, "participation": 0.5}, {"shorts": True}),
        (2, {"slippage": "walk", "book_age": 90 * SECOND, "most_open": 1}, {"stop": 0.0}),
        (1, {"slippage": "spread", "order": 20 * SECOND}, {"volatility": 0.5, "span": 10}),
        (1, {}, {"plan": "grid", "levels": 5, "step": 0.003, "amount": 900.0}),
        (2, {}, {"plan": "dca", "every": 1_800.0, "amount": 500.0}),
    ],
)
def test_the_walk_is_every_event_stepped(count, more, policy):
    tape = merge([random_feed(seed, 350 * MINUTE if seed == 1 else None) for seed in range(count)])
    chosen = Policy(**({"stop": 0.004, "target": 0.006, "fraction": 0.4} | policy))
    state = state_of(rules(count, **more))
    record = walk_tape(state_of(rules(count, **more)), chosen.record(), follow_signals, tape, curve=True)
    fills = stepped(state, chosen.record(), tape)
    assert np.array(fills, dtype=record.fills.dtype).tobytes() == record.fills.tobytes()
    assert len(fills) > 10
    assert record.daily[-1] == state["cash"][0]
    assert record.funding == state["funding"][0]
    assert record.events == len(tape.kind) + 1
    assert (np.diff(record.timestamp) > 0).all()


OWN = np.dtype([("every", np.int64), ("seen", np.int64), ("side", np.int64)], align=True)


@compiled(on_event_type(numba.from_dtype(OWN)))
def every_so_many(state, event, policy):
    """A policy of one's own: in and out every so many trades."""
    if event.kind != TRADE:
        return
    policy.seen += 1
    if policy.seen % policy.every == 0:
        held = state.instruments[0].quantity
        if held > 0.0:
            submit(state, 0, MARKET, -1, 1, 0, 0.0, 1, 0.0)
        else:
            submit(state, 0, MARKET, 1, 0, 0, 0.0, 0, 1.0)


def test_a_policy_of_ones_own_hears_of_every_trade():
    prices = 100.0 + np.arange(50) % 7
    tape = merge([Feed(trades=Trades(np.arange(50) * SECOND, prices, np.ones(50)))])
    policy = np.zeros(1, dtype=OWN)[0]
    policy["every"] = 10
    state = state_of(Rules())
    state["wake_at"] = 0
    record = walk_tape(state, policy, every_so_many, tape, curve=False)
    assert policy["seen"] == 50
    assert record.fills["timestamp"].tolist() == [10 * SECOND, 20 * SECOND, 30 * SECOND, 40 * SECOND]
    assert record.fills["price"].tolist() == prices[[10, 20, 30, 40]].tolist()


def test_signals_without_candles_bring_their_times():
    prices = np.array([100.0, 101.0, 99.0, 95.0])
    trades = Trades(np.arange(4) * SECOND, prices, np.ones(4))
    signals = Signals(np.zeros(1, dtype=np.int64), np.array([1]))
    with pytest.raises(WrongUse, match="need their times"):
        merge([Feed(trades=trades, signals=signals)])
    tape = merge([Feed(trades=trades, signals=signals, at=np.array([1]))])
    policy = Policy(stop=0.03)
    record = walk_tape(state_of(Rules()), policy.record(), follow_signals, tape, curve=True)
    assert record.fills["price"].tolist() == [101.0, 95.0]
    assert len(record.timestamp) == 2


def test_what_cannot_be_merged_is_refused():
    with pytest.raises(WrongUse, match="nothing happens"):
        merge([Feed()])
    with pytest.raises(WrongUse, match="must not go back"):
        merge([Feed(trades=trades_of((5, 1.0), (4, 1.0)))])


def test_funding_is_on_the_tape():
    tape = merge([random_feed(1)])
    assert int((tape.kind == FUNDING).sum()) == 1
