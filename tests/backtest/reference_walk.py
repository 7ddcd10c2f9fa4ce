"""The shipped policy and the walk over candles once more, plainly, on the reference engine."""

import math
from dataclasses import dataclass, field
from typing import Any

from reference import NEVER, Happening, Reference, Rules

DAY = 86_400_000_000


@dataclass
class Plan:
    """What `backtest.policies.Policy` says, times in µs."""

    plan: str = "signals"
    fraction: float = 1.0
    quantity: float = 0.0
    volatility: float = 0.0
    span: int = 50
    stop: float = 0.0
    target: float = 0.0
    trail: float = 0.0
    trail_on_close: bool = False
    shorts: bool = False
    daily_loss: float = 0.0
    daily_target: float = 0.0
    most_trades: int = 0
    cooldown: int = 0
    amount: float = 0.0
    every: int = 0
    levels: int = 0
    step: float = 0.0


@dataclass
class Outcome:
    fills: list[dict[str, Any]] = field(default_factory=list)
    curve: dict[int, tuple[float, float]] = field(default_factory=dict)
    daily: dict[int, float] = field(default_factory=dict)
    closes: list[float] = field(default_factory=list)
    rejected: int = 0


class Walk:
    """Candles in order, each with the signal at its close; the policy hears what the kernel's hears."""

    def __init__(self, rules: Rules, plan: Plan) -> None:
        self.engine, self.plan, self.out = Reference(rules), plan, Outcome()
        self.day, self.day_equity, self.entries, self.blocked = -1, 0.0, 0, False
        self.left_at, self.next_at = -(2**62), 0
        self.last, self.variance, self.seen, self.length = 0.0, 0.0, 0, 0

    def candle(self, time, length, open_, high, low, close, volume, signal):
        self.event(Happening("open", 0, time, time, open_, open_, open_, volume))
        end = time + length
        self.event(Happening("close", 0, end, time, close, high, low))
        self.mark(end)
        self.out.daily[(end - 1) // DAY] = self.engine.equity()
        self.out.closes.append(self.engine.equity())
        if signal is not None:
            self.event(Happening("signal", 0, end, end, close, close, close, signal=signal))

    def finish(self, time, close):
        self.engine.happen(Happening("end", 0, time, time, close, close, close))
        if self.engine.fills:
            self.keep()
            self.out.daily[(time - 1) // DAY] = self.engine.equity()
        self.out.rejected = self.engine.rejected

    def event(self, event: Happening) -> None:
        self.engine.happen(event)
        self.hear(event)
        if self.engine.fills:
            self.keep()
            if event.kind == "close" and self.engine.recheck():
                self.hear(event)
                self.keep()

    def keep(self) -> None:
        self.out.fills += self.engine.fills
        self.mark(self.engine.fills[-1]["time"])

    def mark(self, time):
        self.out.curve[time] = (self.engine.cash, 0.0 + self.engine.markets[0].value)

    # The policy.

    def hear(self, event: Happening) -> None:
        plan, engine = self.plan, self.engine
        time = event.time - 1 if event.kind in ("close", "signal") else event.time
        limited = plan.daily_loss or plan.daily_target
        if event.kind == "signal" and plan.plan != "signals":
            return
        if not (
            limited or plan.volatility or plan.plan != "signals" or engine.fills or event.kind == "signal"
        ):
            return
        if plan.plan != "signals" and not limited and not engine.fills and event.time < self.next_at:
            return
        if time // DAY != self.day:
            self.day, self.day_equity = time // DAY, engine.equity()
            self.entries, self.blocked = 0, False
        if event.kind == "signal":
            engine.cancel(0, "market")
            if event.signal >= 1:
                self.turn(1)
            elif event.signal <= -1:
                self.turn(-1)
            return
        for fill in list(engine.fills):
            self.after(fill)
        if plan.volatility and event.kind == "close":
            self.note(event)
        if limited:
            self.limit()
        if plan.plan != "signals" and event.time >= self.next_at:
            self.begin(event)

    def may_enter(self) -> bool:
        many = self.plan.most_trades and self.entries >= self.plan.most_trades
        return not (self.blocked or many) and self.engine.time >= self.left_at + self.plan.cooldown

    def turn(self, side: int) -> None:
        plan, market = self.plan, self.engine.markets[0]
        if market.held * side > 0:
            return
        if market.held:
            self.engine.submit(0, "market", side, True, "signal", 0.0, "quantity", 0.0)
        if (side < 0 and not plan.shorts) or not self.may_enter():
            return
        self.entries += 1
        sizing, size = ("quantity", plan.quantity) if plan.quantity else ("equity", plan.fraction)
        if plan.volatility and not plan.quantity:
            size = 0.0
            if self.seen >= plan.span and self.variance > 0:
                yearly = math.sqrt(self.variance / self.length * (365.0 * DAY))
                size = min(plan.fraction, plan.volatility / yearly / self.engine.rules.leverage)
        self.engine.submit(0, "market", side, False, "signal", 0.0, sizing, size)

    def note(self, event: Happening) -> None:
        if self.seen:
            change = event.price / self.last - 1.0
            weight = 2.0 / (self.plan.span + 1.0) if self.seen > 1 else 1.0
            self.variance = weight * change * change + (1.0 - weight) * self.variance
        self.last, self.seen, self.length = event.price, self.seen + 1, event.time - event.start

    def after(self, fill: dict[str, Any]) -> None:
        plan, engine = self.plan, self.engine
        is_entry = fill["side"] * fill["held"] > 0
        market = engine.markets[0]
        if is_entry and market.held:
            side = 1 if market.held > 0 else -1
            if plan.stop:
                engine.cancel(0, "stop")
                price = market.entry * (1.0 - side * plan.stop)
                engine.submit(0, "stop", -side, True, "stop_loss", price, "quantity", 0.0)
            if plan.target:
                engine.cancel(0, "take_profit")
                price = market.entry * (1.0 + side * plan.target)
                engine.submit(0, "take_profit", -side, True, "take_profit", price, "quantity", 0.0)
            if plan.trail:
                engine.cancel(0, "trailing_stop")
                engine.submit_trailing(0, -side, plan.trail, plan.trail_on_close)
        elif not is_entry and not fill["held"]:
            self.left_at = fill["time"]
        if plan.plan == "grid" and fill["kind"] == "limit":
            if fill["side"] > 0:
                price = fill["price"] * (1.0 + plan.step)
                engine.submit(0, "limit", -1, True, "policy", price, "quantity", fill["quantity"])
            else:
                price = fill["price"] / (1.0 + plan.step)
                engine.submit(0, "limit", 1, False, "policy", price, "quote", plan.amount)

    def limit(self) -> None:
        plan, engine = self.plan, self.engine
        if self.blocked:
            return
        change = engine.equity() / self.day_equity - 1.0 if self.day_equity > 0 else 0.0
        loses = plan.daily_loss and change <= -plan.daily_loss
        gains = plan.daily_target and change >= plan.daily_target
        if not (loses or gains):
            return
        self.blocked = True
        engine.orders = [o for o in engine.orders if o.reduces]
        if held := engine.markets[0].held:
            engine.submit(0, "market", -1 if held > 0 else 1, True, "daily_limit", 0.0, "quantity", 0.0)

    def begin(self, event: Happening) -> None:
        plan, engine = self.plan, self.engine
        if plan.plan == "grid":
            price = event.price
            for _ in range(plan.levels):
                price /= 1.0 + plan.step
                engine.submit(0, "limit", 1, False, "policy", price, "quote", plan.amount)
            self.next_at = NEVER
            return
        self.next_at = event.time + plan.every
        if self.may_enter():
            self.entries += 1
            engine.submit(0, "market", 1, False, "policy", 0.0, "quote", plan.amount)


def simulate(rules, plan, times, length, opens, highs, lows, closes, volumes, signals) -> Outcome:
    """The outcome over lists of Python floats; `signals` maps candle numbers to types."""
    walk = Walk(rules, plan)
    for i, time in enumerate(times):
        walk.candle(time, length, opens[i], highs[i], lows[i], closes[i], volumes[i], signals.get(i))
    walk.finish(times[-1] + length, closes[-1])
    return walk.out
