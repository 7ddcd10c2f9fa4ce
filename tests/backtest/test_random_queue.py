"""Random books, trades and limit orders: the queue of the kernel and of the reference agree bit for bit."""

import os

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pair import Pair, state_of
from reference import Happening, Rules, Terms

from backtest.compiled import compiled
from backtest.kernel import step
from backtest.merged import walk_tape
from backtest.orders import cancel, submit
from backtest.policies import on_event_type
from backtest.queue import line_up
from backtest.state import BY_POLICY, DEPTH, END, LIMIT, QUANTITY, TRADE, Event
from backtest.tape import Depth, Feed, Trades, merge

# `make soak` sets it to thousands.
CASES = int(os.environ.get("DELTATAPE_ENGINE_CASES", "100"))
SECOND = 1_000_000


class Book:
    """A book of a few whole prices, its changes and the trades in it, from one seed."""

    def __init__(self, random) -> None:
        self.random = random
        self.levels = {(1, 99.0): 5.0, (-1, 101.0): 5.0}
        self.deepest = {1: 0.0, -1: 0.0}
        self.is_whole = True

    def best(self):
        bids = [price for (side, price), size in self.levels.items() if side > 0 and size]
        asks = [price for (side, price), size in self.levels.items() if side < 0 and size]
        return max(bids, default=0.0), min(asks, default=0.0)

    def message(self):
        """Rows of one message: side, price, size."""
        random, rows = self.random, []
        for side in (1, -1):
            shown = [price for (each, price), size in self.levels.items() if each == side and size]
            deepest = (min if side > 0 else max)(shown, default=100.0)
            if random.random() < 0.3 and deepest != self.deepest[side]:
                self.deepest[side] = deepest
                rows.append((2 * side, deepest, 0.0))
        for _ in range(int(random.integers(0, 4))):
            side = int(random.choice([1, -1]))
            price = 100.0 - side * float(random.integers(0 if random.random() < 0.1 else 1, 5))
            size = float(random.choice([0.0, 1.0, 2.5, 7.0, 30.0]))
            self.levels[side, price] = size
            rows.append((side, price, size))
        if random.random() < 0.1:
            self.is_whole = not self.is_whole
            rows.append((0, 0.0, float(self.is_whole)))
        return rows

    def trade(self):
        """Price, size and side of one trade."""
        random = self.random
        bid, ask = self.best()
        side = int(random.choice([1, -1, 0]))
        price = {1: ask or 101.0, -1: bid or 99.0, 0: 100.0}[side]
        if random.random() < 0.15:
            price += float(random.choice([-1.0, 1.0]))
        return price, float(random.choice([0.25, 1.0, 3.0, 8.0])), side


class Script:
    """Books of a few instruments, and limit orders at random moments."""

    def __init__(self, pair: Pair, seed: int, instruments: int) -> None:
        self.pair = pair
        self.random = np.random.default_rng(seed)
        self.books = [Book(self.random) for _ in range(instruments)]
        self.time = 0
        for instrument, book in enumerate(self.books):
            rows = [(side, price, size) for (side, price), size in book.levels.items()]
            self.tell(instrument, [(2, 95.0, 0.0), (-2, 105.0, 0.0), *rows, (0, 0.0, 1.0)])

    def tell(self, instrument, rows):
        bid, ask = self.books[instrument].best()
        for side, price, size in rows:
            event = Happening(
                "depth", instrument, self.time, self.time, price, low=bid, high=ask, size=size, signal=side
            )
            self.pair.happen(event)
            if self.random.random() < 0.2:
                self.order()

    def go_on(self):
        random = self.random
        self.time += int(random.choice([0, 1, SECOND, 30 * SECOND]))
        instrument = int(random.integers(len(self.books)))
        if random.random() < 0.5:
            self.tell(instrument, self.books[instrument].message())
            return
        price, size, side = self.books[instrument].trade()
        self.pair.happen(
            Happening("trade", instrument, self.time, self.time, price, price, price, size=size, signal=side)
        )
        if self.pair.several:
            self.pair.settle()
        for _ in range(2):
            self.order()

    def order(self):
        random, pair = self.random, self.pair
        instrument = int(random.integers(len(self.books)))
        if random.random() < 0.1:
            pair.cancel("limit", instrument)
        if random.random() < 0.5 or len(pair.reference.orders) > 40:
            return
        held = pair.reference.markets[instrument].held
        reduces = bool(held and random.random() < 0.5)
        side = (-1 if held > 0 else 1) if reduces else int(random.choice([1, -1]))
        kind = str(random.choice(["limit", "limit", "limit", "market", "stop"]))
        pair.submit(
            "take_profit" if reduces and kind == "market" else kind,
            side,
            instrument=instrument,
            reduces=reduces,
            price=100.0 - side * float(random.integers(-1, 4)) * (-1.0 if kind == "stop" else 1.0),
            sizing="quantity" if reduces else str(random.choice(["quantity", "equity", "quote"])),
            size=float(random.choice([0.0, 2.0])) if reduces else float(random.choice([0.4, 1.0, 6.0])),
            until=self.time + 20 * SECOND if random.random() < 0.2 else 2**63 - 1,
            at_once=random.random() < 0.05,
            group=int(random.integers(1, 4)) if random.random() < 0.2 else 0,
        )


def run(rules: Rules, seed: int, steps: int) -> Pair:
    pair = Pair(rules)
    script = Script(pair, seed, len(rules.terms))
    for _ in range(steps):
        script.go_on()
    pair.happen(Happening("end", 0, script.time, script.time, 1.0, 1.0, 1.0))
    return pair


@st.composite
def rules(draw) -> Rules:
    latency = draw(st.sampled_from([0, 0, 1, 10 * SECOND]))
    terms = Terms(
        taker=0.001,
        maker=draw(st.sampled_from([0.0, 0.0002])),
        lot=draw(st.sampled_from(["0", "0.5", "0.001"])),
        least=draw(st.sampled_from([0.0, 90.0])),
    )
    return Rules(
        shorts=True,
        queue=draw(st.sampled_from(["pessimistic", "pro_rata"])),
        slippage=draw(st.sampled_from(["fixed", "spread"])),
        participation=draw(st.sampled_from([0.0, 0.0, 0.5])),
        order=latency,
        terms=(terms,) * draw(st.sampled_from([1, 1, 2])),
    )


@settings(max_examples=CASES, deadline=None)
@given(rules(), st.integers(0, 2**32 - 1), st.integers(1, 40))
def test_agrees_with_the_reference_bit_for_bit(rules, seed, steps):
    run(rules, seed, steps)


def test_the_random_books_reach_every_rule():
    fills = []
    for seed in range(12):
        queue = ["pessimistic", "pro_rata"][seed % 2]
        fills += run(Rules(shorts=True, queue=queue), seed, 40).fills
    seen = {(fill["source"], fill["liquidity"], fill["kind"]) for fill in fills}
    assert seen >= {("queue", "maker", "limit"), ("queue", "maker", "take_profit")}
    assert seen >= {("trade", "maker", "limit"), ("trade", "taker", "limit")}
    parts = [fill["order"] for fill in fills if fill["source"] == "queue"]
    assert len(set(parts)) < len(parts)


OWN = np.dtype([("every", np.int64), ("seen", np.int64), ("side", np.int64)], align=True)


@compiled(on_event_type(numba.from_dtype(OWN)))
def now_and_then(state, event, policy):
    """Limit orders near the market; it sleeps in between, so that trades which do nothing are passed over."""
    policy.seen += 1
    state.wake_at = state.timestamp + 20_000_000
    if event.kind not in (TRADE, DEPTH):
        return
    if policy.seen % 7 == 0:
        cancel(state, 0, LIMIT)
    if state.order_count < 6:
        side = 1 if policy.seen % 2 == 0 else -1
        submit(state, 0, LIMIT, side, 0, BY_POLICY, 100.0 - side * (1.0 + policy.seen % 3), QUANTITY, 2.0)


def random_feed(seed):
    random = np.random.default_rng(seed)
    book, rows, trades, time = Book(random), [], [], 0
    bid, ask = book.best()
    begun = [(2, 95.0, 0.0), (-2, 105.0, 0.0), (1, bid, 5.0), (-1, ask, 5.0), (0, 0.0, 1.0)]
    rows += [(0, *row, bid, ask) for row in begun]
    for _ in range(3_000):
        time += int(random.choice([0, SECOND, 3 * SECOND]))
        if random.random() < 0.3:
            rows += [(time, *row, *book.best()) for row in book.message()]
        else:
            trades.append((time, *book.trade()))
    at, price, size, side = (np.array(column) for column in zip(*trades, strict=True))
    when, kind, level, amount, bids, asks = (np.array(column) for column in zip(*rows, strict=True))
    depth = Depth(when, kind.astype(np.int8), level, amount, bids, asks)
    return Feed(trades=Trades(at, price, size, side.astype(np.int8)), depth=depth)


@pytest.mark.parametrize("queue", ["pessimistic", "pro_rata"])
def test_the_walk_is_every_event_stepped(queue):
    tape = merge([random_feed(5)])
    rules = Rules(shorts=True, queue=queue, capital=1e6, order=SECOND)
    state, policy = state_of(rules), np.zeros(2, dtype=OWN)
    state["wake_at"] = 0
    record = walk_tape(state.copy(), policy[0], now_and_then, tape, curve=False)
    now, fills = state[0], []
    for place in range(len(tape.kind)):
        event = Event(*(column[place].item() for column in tape[:10]))
        line_up(now, tape, place)
        step(now, event)
        assert now["error"] == 0
        if now["fill_count"] or event.timestamp >= now["wake_at"]:
            now_and_then(now, event, policy[1])
        fills.extend(now["fills"][: now["fill_count"]].copy())
    step(now, Event(END, 0, int(now["timestamp"]), 0, 0.0, 0.0, 0.0, 0.0, 0, 0))
    fills.extend(now["fills"][: now["fill_count"]].copy())
    assert np.array(fills, dtype=record.fills.dtype).tobytes() == record.fills.tobytes()
    assert record.events == len(tape.kind) + 1
    assert policy["seen"][0] == policy["seen"][1]
