"""Random orders on random markets: the kernel and the reference agree at every event, bit for bit."""

import os

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from pair import Pair
from reference import Happening, Rules, Terms

MINUTE = 60_000_000
# `make soak` sets it to thousands.
CASES = int(os.environ.get("DELTATAPE_ENGINE_CASES", "150"))


@st.composite
def terms(draw) -> Terms:
    return Terms(
        taker=draw(st.sampled_from([0.0, 0.001, 0.0075])),
        maker=draw(st.sampled_from([0.0, 0.0005, 0.002])),
        slippage=draw(st.sampled_from([0.0, 0.0001, 0.02])),
        lot=draw(st.sampled_from(["0", "0.001", "0.05", "3"])),
        tick=draw(st.sampled_from(["0", "0.01", "0.25"])),
        least=draw(st.sampled_from([0.0, 50.0])),
    )


@st.composite
def rules(draw) -> Rules:
    shorts = draw(st.booleans())
    linear = shorts and draw(st.booleans())
    latency = draw(st.sampled_from([0, 0, 1, 30_000_000]))
    return Rules(
        capital=draw(st.sampled_from([10_000.0, 400.0])),
        linear=linear,
        shorts=shorts,
        leverage=draw(st.sampled_from([1.0, 3.0, 20.0])) if linear else 1.0,
        maintenance=draw(st.sampled_from([0.0, 0.01])) if linear else 0.0,
        slippage=draw(st.sampled_from(["fixed", "spread", "walk"])),
        book_age=draw(st.sampled_from([0, 2_000_000, 90_000_000])),
        participation=draw(st.sampled_from([0.0, 0.0, 0.1, 1.0])),
        most_open=draw(st.sampled_from([0, 1])),
        feed=latency,
        order=draw(st.sampled_from([0, latency])),
        response=draw(st.sampled_from([0, 70_000_000])) if latency else 0,
        lags=draw(st.sampled_from([(), (), (0, 5, 40_000_000)])),
        seed=draw(st.integers(0, 2**64 - 1)),
        terms=tuple(draw(st.lists(terms(), min_size=1, max_size=3))),
    )


class Script:
    """A market of several instruments, and orders at random moments, from one seed."""

    def __init__(self, pair: Pair, seed: int, instruments: int) -> None:
        self.pair = pair
        self.random = np.random.default_rng(seed)
        self.prices = [100.0] * instruments
        self.spread = self.random.choice([0.001, 0.01, 0.1])
        self.is_coarse = self.random.random() < 0.5
        self.kinds = self.random.choice(["candles", "trades", "both"])
        self.time = int(self.random.integers(0, 1_000)) * MINUTE
        self.delisted: set[int] = set()

    def move(self, instrument: int) -> float:
        price = self.prices[instrument] * float(np.exp(self.random.normal(0, self.spread)))
        # Coarse prices make touched levels and equal prices common.
        price = max(float(round(price)), 1.0) if self.is_coarse else price
        self.prices[instrument] = price
        return price

    def happen(self, kind: str, instrument: int, time: int, price: float, **more) -> None:
        facts = {"start": time, "high": price, "low": price} | more
        self.pair.happen(Happening(kind, instrument, time, price=price, **facts))
        self.act(kind)

    def act(self, kind: str) -> None:
        """Now and then something is ordered, sooner where something has just filled."""
        random = self.random
        for _ in range(3):
            if random.random() > (0.5 if self.pair.reference.fills else 0.15):
                return
            if len(self.pair.reference.orders) < 100:
                self.order(int(random.integers(len(self.prices))))

    def order(self, instrument: int) -> None:
        random, pair = self.random, self.pair
        market = pair.reference.markets[instrument]
        held = market.held
        if held and random.random() < 0.15:
            pair.trail(-1 if held > 0 else 1, 0.02, instrument=instrument, on_close=random.random() < 0.5)
            return
        if random.random() < 0.1:
            pair.cancel(str(random.choice(["market", "stop", "limit"])), instrument)
            return
        kind = str(random.choice(["market", "market", "limit", "limit", "stop", "take_profit"]))
        reduces = kind == "take_profit" or bool(held and random.random() < 0.6)
        side = (-1 if held > 0 else 1) if reduces else int(random.choice([1, 1, -1]))
        sizing = "quantity" if reduces else str(random.choice(["equity", "quantity", "quote"]))
        size = {"equity": 0.5, "quantity": 3.7, "quote": 700.0}[sizing] * random.choice([0.1, 1.0, 2.0])
        if reduces and random.random() < 0.5:
            size = 0.0
        away = 1.0 + self.spread * random.choice([-1.5, -0.5, 0.0, 0.5, 1.5])
        price = self.prices[instrument] * away
        pair.submit(
            kind,
            side,
            instrument=instrument,
            reduces=reduces,
            price=max(float(round(price)), 1.0) if self.is_coarse else price,
            sizing=sizing,
            size=float(size),
            until=self.time + int(random.integers(1, 6)) * MINUTE if random.random() < 0.2 else 2**63 - 1,
            at_once=random.random() < 0.1,
            group=int(random.integers(1, 4)) if random.random() < 0.3 else 0,
            confidence=float(random.integers(0, 3)),
        )

    def settle(self) -> None:
        if self.pair.several:
            self.pair.settle()
        self.pair.recheck()
        self.act("settle")

    def candle(self) -> None:
        """A candle of each instrument that has one now, with what happens inside it."""
        begin, end = self.time, self.time + MINUTE
        random = self.random
        alive = [i for i in range(len(self.prices)) if i not in self.delisted and random.random() > 0.15]
        volumes = {i: float(random.choice([0.0, 1.0, 20.0])) for i in alive}
        ranges = {}
        for i in alive:
            price = self.move(i)
            ranges[i] = [price, price]
            if self.kinds != "trades":
                self.happen("open", i, begin, price, size=volumes[i])
        self.settle()
        detailed = self.kinds == "trades" or (self.kinds == "both" and random.random() < 0.5)
        for n in range(int(random.integers(0, 6)) if detailed or random.random() < 0.3 else 0):
            for i in alive:
                self.inside(i, begin + 1_000_000 * (n + 1), ranges, detailed)
            self.settle()
        if self.kinds != "trades":
            for i in alive:
                price = self.prices[i] if detailed else self.move(i)
                low, high = min(*ranges[i], price), max(*ranges[i], price)
                wick = 0.0 if detailed else abs(random.normal(0, self.spread / 2))
                self.happen(
                    "close",
                    i,
                    end,
                    price,
                    start=begin,
                    high=high * (1 + wick),
                    low=low / (1 + wick),
                    source="close" if detailed else "candle",
                )
            self.settle()
        self.time = end

    def inside(self, i: int, time: int, ranges: dict, detailed: bool) -> None:
        """A trade or a book of one instrument."""
        random = self.random
        if detailed and random.random() < 0.7:
            price = self.move(i)
            ranges[i] += [price]
            self.happen("trade", i, time, price, size=float(random.choice([0.5, 5.0])))
            return
        middle, half = self.prices[i], float(random.choice([0.01, 0.5])) / 2
        count = int(random.integers(1, 5))
        bids = tuple((middle - half * (n + 1), float(random.integers(1, 9))) for n in range(count))
        asks = tuple((middle + half * (n + 1), float(random.integers(1, 9))) for n in range(count))
        self.happen("book", i, time, middle, high=asks[0][0], low=bids[0][0], bids=bids, asks=asks)

    def between(self) -> None:
        random = self.random
        instrument = int(random.integers(len(self.prices)))
        if random.random() < 0.2:
            mark = float(random.choice([0.0, self.prices[instrument]]))
            rate = float(random.choice([-0.001, 0.0001, 0.01]))
            self.happen("funding", instrument, self.time, mark, size=rate)
        elif random.random() < 0.02 and instrument not in self.delisted:
            self.happen("delisted", instrument, self.time, self.prices[instrument])
            self.delisted.add(instrument)
        if random.random() < 0.1:
            self.time += 3 * MINUTE


def run(rules: Rules, seed: int, candles: int) -> Pair:
    pair = Pair(rules)
    script = Script(pair, seed, len(rules.terms))
    for _ in range(candles):
        script.candle()
        script.between()
    pair.happen(Happening("end", 0, script.time, script.time, 1.0, 1.0, 1.0))
    assert not pair.reference.orders
    assert not any(market.held for market in pair.reference.markets)
    return pair


@settings(max_examples=CASES, deadline=None)
@given(rules(), st.integers(0, 2**32 - 1), st.integers(1, 25))
def test_agrees_with_the_reference_bit_for_bit(rules, seed, candles):
    run(rules, seed, candles)


def test_the_random_markets_reach_every_rule():
    seen = set()
    linear = {"linear": True, "shorts": True, "leverage": 20.0}
    for seed in range(40):
        terms = (Terms(taker=0.001, slippage=0.0001),) * (1 + seed % 3)
        slippage = ["fixed", "spread", "walk"][seed % 3]
        more = linear if seed % 2 else {}
        pair = run(Rules(terms=terms, slippage=slippage, book_age=90_000_000, **more), seed, 25)
        for fill in pair.fills:
            seen |= {fill["kind"], fill["reason"], fill["source"], fill["liquidity"]}
    assert seen >= {"market", "limit", "stop", "take_profit", "trailing_stop", "maker", "taker"}
    assert seen >= {"signal", "liquidation", "delisted", "end_of_data"}
    assert seen >= {"candle", "candle_pessimistic", "next_open", "close", "trade", "book"}
