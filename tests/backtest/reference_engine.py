"""The rules of filling once more, slowly and plainly: what the kernel is held against.

One candle after the other, in floats of Python, without the kernel's events, orders or records. The
arithmetic of each amount is written in the kernel's order, so that results are equal bit for bit.
"""

import math
from dataclasses import dataclass, field
from decimal import Decimal

DAY = 86_400_000_000


@dataclass
class Rules:
    capital: float = 10_000.0
    taker: float = 0.001
    maker: float = 0.0005
    slippage: float = 0.0001
    lot: str = "0"
    linear: bool = False
    fraction: float = 1.0
    stop: float = 0.0
    target: float = 0.0
    shorts: bool = False


@dataclass
class Outcome:
    fills: list[tuple] = field(default_factory=list)
    curve: dict[int, tuple[float, float]] = field(default_factory=dict)
    daily: dict[int, float] = field(default_factory=dict)
    rejected: int = 0


class Reference:
    """Give it candles in order, each with the signal at its close (or None); then `finish`."""

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self.out = Outcome()
        self.cash = rules.capital
        self.held = 0.0
        self.entry = self.basis = 0.0
        self.stop = self.target = self.ruin = None
        self.asked: list[str] = []
        self.count = 0

    def candle(self, time, length, open_, high, low, close, signal):
        before = len(self.out.fills)
        self._gap(time, open_)
        self._asked_for(time, open_)
        if len(self.out.fills) > before:
            self._mark(time, open_)
        before = len(self.out.fills)
        self._inside(time + length - 1, open_, high, low)
        if len(self.out.fills) > before:
            self._mark(time + length - 1, close)
        self._mark(time + length, close)
        self.out.daily[(time + length - 1) // DAY] = self.cash + self.held * (close - self.basis)
        if signal is not None:
            self._hear(signal)

    def finish(self, time, close):
        if self.held:
            worse = self._worse(close, -math.copysign(1, self.held))
            self._exit(time, worse, "market", "end_of_data", "close", "taker")
            self._mark(time, close)
            self.out.daily[(time - 1) // DAY] = self.cash

    def _hear(self, signal):
        self.asked = []
        if signal >= 1 and self.held <= 0:
            self.asked = ["buy back"] * (self.held < 0) + ["enter long"]
        elif signal <= -1 and self.held >= 0:
            self.asked = ["sell out"] * (self.held > 0) + ["enter short"] * self.rules.shorts

    def _gap(self, time, open_):
        if not self.held:
            return
        long = self.held > 0
        stops = [s for s in (self.stop, self.ruin) if s is not None]
        gapped = [s for s in stops if (open_ <= s if long else open_ >= s)]
        if gapped:
            self._stopped(time, open_, max(gapped) if long else min(gapped), "candle")
        elif self.target is not None and (open_ > self.target if long else open_ < self.target):
            self._exit(time, self.target, "take_profit", "take_profit", "candle", "maker")

    def _inside(self, time, open_, high, low):
        if not self.held:
            return
        long = self.held > 0
        stops = [s for s in (self.stop, self.ruin) if s is not None]
        touched = [s for s in stops if (low <= s if long else high >= s)]
        through = self.target is not None and (high > self.target if long else low < self.target)
        if touched:
            source = "candle_pessimistic" if through else "candle"
            self._stopped(time, open_, max(touched) if long else min(touched), source)
        elif through:
            self._exit(time, self.target, "take_profit", "take_profit", "candle", "maker")

    def _stopped(self, time, market, level, source):
        long = self.held > 0
        price = min(market, level) if long else max(market, level)
        reason = "liquidation" if level == self.ruin and level != self.stop else "stop_loss"
        self._exit(time, self._worse(price, -1.0 if long else 1.0), "stop", reason, source, "taker")

    def _asked_for(self, time, open_):
        asked, self.asked = self.asked, []
        for what in asked:
            if what in ("buy back", "sell out"):
                if self.held:
                    worse = self._worse(open_, 1.0 if what == "buy back" else -1.0)
                    self._exit(time, worse, "market", "signal", "next_open", "taker")
            else:
                self._enter(time, open_, 1 if what == "enter long" else -1)

    def _worse(self, price, side):
        return price * (1.0 + side * self.rules.slippage)

    def _enter(self, time, open_, side):
        rules = self.rules
        price = self._worse(open_, side)
        quantity = rules.fraction * self.cash / (price * (1.0 + rules.taker))
        lot = Decimal(rules.lot)
        if lot:
            digits, places = int(lot.scaleb(-lot.as_tuple().exponent)), -lot.as_tuple().exponent
            lots = math.floor(quantity * 10**places / digits)
            quantity = lots * digits / 10**places
        if quantity <= 0:
            self.out.rejected += 1
            return
        fee = quantity * price * rules.taker
        self.basis = price if rules.linear else 0.0
        self.cash = self.cash - side * quantity * (price - self.basis) - fee
        self.held, self.entry = side * quantity, price
        self.count += 1
        name = "buy" if side > 0 else "sell"
        self._note(time, name, "market", "signal", "next_open", "taker", quantity, price, fee, 0.0)
        if side < 0:
            self.ruin = self.basis - self.cash / self.held
        if rules.stop:
            self.stop = price * (1.0 - side * rules.stop)
        if rules.target:
            self.target = price * (1.0 + side * rules.target)

    def _exit(self, time, price, kind, reason, source, liquidity):
        rate = self.rules.maker if liquidity == "maker" else self.rules.taker
        quantity = abs(self.held)
        fee = quantity * price * rate
        gross = self.held * (price - self.entry)
        self.cash = self.cash + self.held * (price - self.basis) - fee
        name = "sell" if self.held > 0 else "buy"
        self._note(time, name, kind, reason, source, liquidity, quantity, price, fee, gross)
        self.held = self.entry = self.basis = 0.0
        self.stop = self.target = self.ruin = None

    def _note(self, time, side, *rest):
        self.out.fills.append((time, self.count, side, *rest))

    def _mark(self, time, price):
        self.out.curve[time] = (self.cash, self.held * (price - self.basis))


def simulate(rules, times, length, opens, highs, lows, closes, signals):
    """The outcome over lists of Python floats; `signals` maps candle numbers to types."""
    engine = Reference(rules)
    for i, time in enumerate(times):
        engine.candle(time, length, opens[i], highs[i], lows[i], closes[i], signals.get(i))
    engine.finish(times[-1] + length, closes[-1])
    return engine.out
