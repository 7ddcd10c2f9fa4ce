"""The rules of filling once more, slowly and plainly: what the kernel is held against.

Written from docs/fills.md, in floats of Python, without the kernel's records, codes or loops. The
arithmetic of each amount is written in the kernel's order, so that results are equal bit for bit.
"""

import math
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

NEVER = 2**63 - 1


@dataclass
class Terms:
    """What an instrument costs and allows."""

    taker: float = 0.0
    maker: float = 0.0
    slippage: float = 0.0
    lot: str = "0"
    tick: str = "0"
    least: float = 0.0


@dataclass
class Rules:
    """What the account allows, and how the market is modelled."""

    capital: float = 10_000.0
    linear: bool = False
    shorts: bool = False
    leverage: float = 1.0
    maintenance: float = 0.0
    slippage: str = "fixed"
    book_age: int = 2_000_000
    queue: str = "none"
    participation: float = 0.0
    most_open: int = 0
    feed: int = 0
    order: int = 0
    response: int = 0
    lags: tuple[int, ...] = ()
    seed: int = 0
    terms: tuple[Terms, ...] = (Terms(),)


@dataclass
class Happening:
    """An event: as `backtest.state.Event`, its kind and source by name."""

    kind: str
    instrument: int
    time: int
    start: int
    price: float
    high: float
    low: float
    size: float = 0.0
    signal: int = 0
    source: str = "candle"
    bids: tuple[tuple[float, float], ...] = ()
    asks: tuple[tuple[float, float], ...] = ()


@dataclass
class Order:
    number: int
    instrument: int
    kind: str
    side: int
    reduces: bool
    reason: str
    price: float
    sizing: str
    size: float
    since: int
    until: int = NEVER
    at_once: bool = False
    group: int = 0
    confidence: float = 0.0
    trail: float = 0.0
    on_close: bool = False
    is_fresh: bool = True
    is_triggered: bool = False
    left: float | None = None
    due: dict[str, Any] | None = None
    line: "Line | None" = None
    offer: float = 0.0


@dataclass
class Line:
    """What stands before an order, what its level showed last, and what was traded there since."""

    ahead: float
    shown: float
    traded: float = 0.0


@dataclass
class Market:
    terms: Terms
    mark: float = 0.0
    held: float = 0.0
    entry: float = 0.0
    basis: float = 0.0
    position: int = 0
    funding: float = 0.0
    volume: float = 0.0
    range: tuple[float, float] = (0.0, 0.0)
    entered_inside: bool = False
    delisted: bool = False
    book_time: int = 0
    bid: float = 0.0
    ask: float = 0.0
    bids: list[list[float]] = field(default_factory=list)
    asks: list[list[float]] = field(default_factory=list)
    levels: dict[tuple[int, float], float] = field(default_factory=dict)
    deepest: dict[int, float] = field(default_factory=lambda: {1: 0.0, -1: 0.0})
    is_whole: bool = False
    changed: int = 0
    taken: float = 0.0

    @property
    def value(self) -> float:
        return self.held * (self.mark - self.basis)


def multiple(value: float, step: str, how: str) -> float:
    """`value` as a whole number of steps: down, up or nearest; a rounding error off one is on it."""
    decimal = Decimal(step)
    if not decimal:
        return value
    exponent = decimal.as_tuple().exponent
    digits, scale = int(decimal.scaleb(-exponent)), 10**-exponent
    if how == "up":
        return -multiple(-value, step, "down")
    count = value * scale / digits
    nearest = math.floor(count + 0.5)
    if how == "nearest" or abs(count - nearest) <= 1e-15 * abs(count):
        return nearest * digits / scale
    return math.floor(count) * digits / scale


class Reference:
    """`submit` and `cancel` orders, let `happen` one event after the other, `settle` entries."""

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self.cash = rules.capital
        self.fees = self.realised = self.funding = 0.0
        self.markets = [Market(terms) for terms in rules.terms]
        self.orders: list[Order] = []
        self.fills: list[dict[str, Any]] = []
        self.time = 0
        self.numbers = self.positions = self.rejected = 0
        self.random = rules.seed % 2**64

    # Orders.

    def submit(self, instrument, kind, side, reduces, reason, price, sizing, size) -> Order | None:
        market = self.markets[instrument]
        if market.delisted:
            self.rejected += 1
            return None
        if kind in ("stop", "take_profit", "limit"):
            buys_by_limit = side > 0 and kind != "stop"
            sells_by_stop = side < 0 and kind == "stop"
            price = multiple(price, market.terms.tick, "down" if buys_by_limit or sells_by_stop else "up")
        self.numbers += 1
        order = Order(
            self.numbers, instrument, kind, side, reduces, reason, price, sizing, size, self.arrival()
        )
        self.orders.append(order)
        return order

    def submit_trailing(self, instrument, side, trail, on_close) -> Order | None:
        price = self.markets[instrument].mark * (1.0 + side * trail)
        order = self.submit(instrument, "trailing_stop", side, True, "trailing_stop", price, "quantity", 0.0)
        if order:
            order.trail, order.on_close = trail, on_close
        return order

    def cancel(self, instrument, kind) -> None:
        meant = [o for o in self.orders if o.instrument == instrument and o.kind == kind]
        if not meant:
            return
        arrival = self.arrival()
        for order in meant:
            if arrival > self.time:
                order.until = min(order.until, arrival)
            else:
                self.orders.remove(order)

    def arrival(self) -> int:
        heard = self.lag(self.rules.response if self.fills else self.rules.feed)
        return self.time + heard + self.lag(self.rules.order)

    def lag(self, fixed: int) -> int:
        if not self.rules.lags:
            return fixed
        self.random = (self.random + 0x9E3779B97F4A7C15) % 2**64
        z = self.random
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB % 2**64
        z ^= z >> 31
        return self.rules.lags[z % len(self.rules.lags)]

    # Events.

    def happen(self, event: Happening) -> list[dict[str, Any]]:
        self.fills = []
        self.time = event.time
        market = self.markets[event.instrument]
        if self.rules.queue != "none":
            self.line_up(event, market)
        if event.kind == "depth":
            self.orders = [o for o in self.orders if o.instrument != event.instrument or o.until > event.time]
            self.change(event, market)
            return self.fills
        if event.kind in ("close", "open", "trade", "book"):
            self.trade_in(event, market)
        elif event.kind == "funding":
            payment = market.held * (event.price or market.mark) * event.size
            self.cash -= payment
            self.funding -= payment
            market.funding -= payment
        elif event.kind == "delisted":
            self.leave(event.instrument, "delisted")
            market.delisted = True
        elif event.kind == "end":
            for instrument in range(len(self.markets)):
                self.leave(instrument, "end_of_data")
        self.check()
        return self.fills

    def leave(self, instrument, reason) -> None:
        market = self.markets[instrument]
        if market.held:
            price = self.worse(market, market.mark, -1 if market.held > 0 else 1)
            facts = {"kind": "market", "reason": reason, "source": "close", "liquidity": "taker"}
            self.reduce(instrument, abs(market.held), price, time=self.time, order=0, **facts)
        self.orders = [o for o in self.orders if o.instrument != instrument]

    def trade_in(self, event: Happening, market: Market) -> None:
        inside = event.kind == "close"
        known = inside and event.source == "close"
        time = event.time - 1 if inside else event.time
        begins = market.mark if inside else event.price
        if event.kind == "book":
            market.bid, market.ask, market.book_time = event.low, event.high, event.time
            market.bids = [list(level) for level in event.bids]
            market.asks = [list(level) for level in event.asks]
        elif not inside or event.size:
            market.volume = self.rules.participation * event.size
        if not known:
            self.orders = [o for o in self.orders if o.instrument != event.instrument or o.until > time]
            if event.kind == "trade" and self.rules.queue != "none":
                self.serve(event, market)
            self.exits(event, market, begins, time)
            self.find_due(event, begins, time)
            self.forget(event, market)
        if inside:
            market.range = (event.low, event.high)
        market.mark = event.price
        if len(self.markets) == 1:
            self.settle()
        if event.kind != "book":
            for order in self.orders:
                self.follow(order, event)

    def follow(self, order: Order, event: Happening) -> None:
        if order.kind != "trailing_stop" or order.instrument != event.instrument:
            return
        if order.on_close:
            if event.kind != "close" or event.source == "lower_timeframe":
                return
            best = event.price
        else:
            best = event.high if order.side < 0 else event.low
        stop = best * (1.0 + order.side * order.trail)
        order.price = max(order.price, stop) if order.side < 0 else min(order.price, stop)

    # The queue of a price, of which every change of the book is known.

    def is_shown(self, market: Market, side: int, price: float) -> bool:
        return price >= market.deepest[1] if side > 0 else price <= market.deepest[-1]

    def line_up(self, event: Happening, market: Market) -> None:
        if not market.is_whole or (event.kind == "depth" and event.time == market.changed):
            return
        for order in self.orders:
            waits = order.instrument == event.instrument and order.line is None and order.since <= event.time
            if not waits or order.kind not in ("limit", "take_profit"):
                continue
            rests = order.price < market.ask if order.side > 0 else order.price > market.bid
            if rests and self.is_shown(market, order.side, order.price):
                size = market.levels.get((order.side, order.price), 0.0)
                order.line, order.is_fresh = Line(size, size), False

    def change(self, event: Happening, market: Market) -> None:
        market.changed = event.time
        if event.signal == 0:
            market.is_whole = event.size > 0
            return
        if event.low and event.high:
            market.bid, market.ask = event.low, event.high
        side = 1 if event.signal > 0 else -1
        if abs(event.signal) == 2:
            market.deepest[side] = event.price
            return
        market.levels[side, event.price] = event.size
        if not self.is_shown(market, side, event.price):
            return
        for order in self.orders:
            line = order.line
            if line is None or (order.instrument, order.side, order.price) != (
                event.instrument,
                side,
                event.price,
            ):
                continue
            left = max(line.shown - line.traded, 0.0)
            if self.rules.queue == "pro_rata" and market.is_whole and event.size < left:
                line.ahead *= event.size / left
            order.line = Line(min(line.ahead, event.size), event.size)

    def serve(self, event: Happening, market: Market) -> None:
        market.taken = 0.0
        for order in self.orders:
            if order.instrument != event.instrument or order.due:
                continue
            order.offer, line = 0.0, order.line
            at_its_price = order.price == event.price and event.signal == -order.side
            if line is None or not market.is_whole or not at_its_price:
                continue
            line.traded += event.size
            order.offer = max(event.size - line.ahead, 0.0)
            line.ahead = max(line.ahead - event.size, 0.0)

    def offered_to(self, order: Order, market: Market) -> float:
        return multiple(max(order.offer - market.taken, 0.0), market.terms.lot, "down")

    # What an event does to an order.

    def is_there(self, order: Order, event: Happening) -> bool:
        if order.since > event.start:
            return False
        return event.kind != "close" or not (order.kind == "market" or order.is_triggered)

    def effect(self, order: Order, event: Happening, begins: float) -> str:
        is_stop = order.kind in ("stop", "trailing_stop")
        buys = order.side > 0
        if not self.is_there(order, event):
            protects = is_stop and order.reduces and not order.is_triggered
            if not (event.kind == "close" and protects and order.since < event.time):
                return ""
        if order.kind == "market" or order.is_triggered:
            return "takes"
        if is_stop:
            return "stopped" if (event.high >= order.price if buys else event.low <= order.price) else ""
        if order.is_fresh and order.kind == "limit":
            offered = self.offered(event, begins, order.side)
            if offered < order.price if buys else offered > order.price:
                return "takes"
        if event.kind == "book":
            through = event.high < order.price if buys else event.low > order.price
        else:
            through = event.low < order.price if buys else event.high > order.price
        if through:
            return "passed"
        return "in_turn" if event.kind == "trade" and order.offer > 0 else ""

    def offered(self, event: Happening, begins: float, side: int) -> float:
        if event.kind != "book":
            return begins
        return event.high if side > 0 else event.low

    def base(self, event: Happening, begins: float, side: int) -> float:
        if event.kind == "book" and self.rules.slippage == "spread":
            return event.price
        return self.offered(event, begins, side)

    def source(self, event: Happening, is_market: bool) -> str:
        if event.kind in ("trade", "book"):
            return event.kind
        return "next_open" if is_market and event.source == "candle" else event.source

    # Prices.

    def worse(self, market: Market, price: float, side: int) -> float:
        if self.rules.slippage == "spread" and market.ask:
            price += side * (0.5 * (market.ask - market.bid))
        else:
            price *= 1.0 + side * market.terms.slippage
        return self.ticked(market, price, side)

    def ticked(self, market: Market, price: float, side: int) -> float:
        return multiple(price, market.terms.tick, "up" if side > 0 else "down")

    def bounded(self, order: Order, price: float) -> float:
        if order.kind != "limit":
            return price
        return min(price, order.price) if order.side > 0 else max(price, order.price)

    def walks(self, order: Order, market: Market, time: int) -> bool:
        fresh = market.ask > 0 and time - market.book_time <= self.rules.book_age
        return self.rules.slippage == "walk" and order.kind != "limit" and fresh

    def walk(self, market: Market, side: int, quantity: float, takes: bool) -> tuple[float, float]:
        amount, left = 0.0, quantity
        for level in market.asks if side > 0 else market.bids:
            part = min(left, level[1])
            if part > 0.0:
                amount += part * level[0]
                left -= part
                if takes:
                    level[1] -= part
        taken = quantity - left
        return (amount / taken if taken > 0.0 else 0.0), taken

    def allowed(self, market: Market, quantity: float) -> float:
        if not self.rules.participation or quantity <= market.volume:
            return quantity
        return multiple(market.volume, market.terms.lot, "down")

    # What reduces.

    def exits(self, event: Happening, market: Market, begins: float, time: int) -> None:
        tried: set[int] = set()

        def meant(effect: str) -> list[Order]:
            return [
                o
                for o in self.orders
                if o.instrument == event.instrument
                and o.reduces
                and o.side * market.held < 0
                and o.number not in tried
                and self.effect(o, event, begins) == effect
            ]

        while market.held:
            side = -1 if market.held > 0 else 1
            stops = sorted(meant("stopped"), key=lambda o: (side * o.price, o.number))
            ruin = self.ruin(event.instrument)
            ruined = ruin > 0 and (event.high >= ruin if side > 0 else event.low <= ruin)
            if stops and ruined and side * stops[0].price <= side * ruin:
                ruined = False
            if not stops and not ruined:
                break
            source = self.source(event, False)
            if event.kind == "close" and meant("passed"):
                source = "candle_pessimistic"
            base = self.base(event, begins, side)
            worst = max if side > 0 else min
            if ruined:
                price = self.worse(market, worst(base, ruin), side)
                facts = {"kind": "stop", "reason": "liquidation", "source": source, "liquidity": "taker"}
                self.reduce(event.instrument, abs(market.held), price, time=time, order=0, **facts)
                continue
            order = stops[0]
            tried.add(order.number)
            if event.kind == "close" and order.since > event.start:
                source = "candle_pessimistic"
            order.is_triggered = True
            self.leave_by(order, worst(base, order.price), source, "taker", time)
        for effect in ("passed", "in_turn", "takes"):
            while market.held and (found := meant(effect)):
                nearest = sorted(found, key=lambda o: (-o.side * o.price, o.number))
                order = nearest[0] if effect == "passed" else found[0]
                tried.add(order.number)
                source = self.source(event, effect == "takes" and order.kind != "limit")
                source = "queue" if effect == "in_turn" else source
                base = self.base(event, begins, order.side)
                self.leave_by(order, base, source, "taker" if effect == "takes" else "maker", time)

    def ruin(self, instrument: int) -> float:
        market = self.markets[instrument]
        if market.held > 0 and self.rules.leverage <= 1:
            return 0.0
        rest = self.cash
        for other in self.markets:
            if other is not market:
                rest += other.value
        sign = 1.0 if market.held > 0 else -1.0
        return (market.basis - rest / market.held) / (1.0 - self.rules.maintenance * sign)

    def leave_by(self, order: Order, base: float, source: str, liquidity: str, time: int) -> None:
        market = self.markets[order.instrument]
        held = abs(market.held)
        wanted = held
        if order.left is not None:
            wanted = min(order.left, held)
        elif order.size:
            wanted = min(multiple(order.size, market.terms.lot, "down"), held)
        quantity, price = self.allowed(market, wanted), order.price
        if source == "queue":
            quantity = min(quantity, self.offered_to(order, market))
        if liquidity == "taker":
            if self.walks(order, market, time):
                found = self.walk(market, order.side, quantity, False)[1]
                quantity = multiple(found, market.terms.lot, "down")
                price = self.walk(market, order.side, quantity, True)[0]
                price, source = self.ticked(market, price, order.side), "book"
            else:
                price = self.bounded(order, self.worse(market, base, order.side))
        if quantity <= 0:
            return
        market.volume -= quantity
        market.taken += quantity if source == "queue" else 0.0
        facts = {"kind": order.kind, "reason": order.reason, "source": source, "liquidity": liquidity}
        self.reduce(order.instrument, quantity, price, time=time, order=order.number, **facts)
        if market.held:
            self.rest(order, wanted, quantity)
        elif order.group:
            self.orders = [o for o in self.orders if o.group != order.group]

    def rest(self, order: Order, wanted: float, quantity: float) -> None:
        left = multiple(wanted - quantity, self.markets[order.instrument].terms.lot, "nearest")
        if left > 0:
            order.left = left
            return
        self.orders = [
            o for o in self.orders if o is not order and not (order.group and o.group == order.group)
        ]

    def forget(self, event: Happening, market: Market) -> None:
        kept = []
        for order in self.orders:
            if order.instrument == event.instrument and not order.due and self.is_there(order, event):
                order.is_fresh = False
                idle = order.reduces and order.kind == "market" and not market.held
                if order.at_once or idle:
                    continue
            kept.append(order)
        self.orders = kept

    # What opens or adds.

    def find_due(self, event: Happening, begins: float, time: int) -> None:
        for order in self.orders:
            if order.instrument != event.instrument or order.reduces or order.due:
                continue
            effect = self.effect(order, event, begins)
            if not effect:
                continue
            base = self.base(event, begins, order.side)
            if effect == "stopped":
                base = max(base, order.price) if order.side > 0 else min(base, order.price)
                order.is_triggered = True
            source = self.source(event, effect == "takes" and order.kind != "limit")
            order.due = {
                "base": base,
                "source": "queue" if effect == "in_turn" else source,
                "liquidity": "maker" if effect in ("passed", "in_turn") else "taker",
                "time": time,
            }

    def settle(self) -> None:
        while due := [o for o in self.orders if o.due]:
            self.enter(min(due, key=lambda o: (-o.confidence, o.instrument, o.number)))
        self.check()

    def equity(self) -> float:
        value = self.cash
        for market in self.markets:
            value += market.value
        return value

    def power(self) -> float:
        if not self.rules.shorts:
            return self.cash
        power = self.rules.leverage * self.equity()
        for market in self.markets:
            power -= abs(market.held) * market.mark
        return power

    def enter(self, order: Order) -> None:
        market = self.markets[order.instrument]
        due, order.due = order.due, None
        order.is_fresh = False
        side, source = order.side, due["source"]
        with_fee = 1.0 + market.terms.taker
        takes = due["liquidity"] == "taker"
        price = self.bounded(order, self.worse(market, due["base"], side)) if takes else order.price
        wanted = self.wanted(order, market, price)
        quantity = self.allowed(market, wanted)
        if source == "queue":
            quantity = min(quantity, self.offered_to(order, market))
        walks = takes and self.walks(order, market, due["time"])
        if walks and quantity > 0:
            price, found = self.walk(market, side, quantity, False)
            price = self.ticked(market, price, side)
            quantity = multiple(found, market.terms.lot, "down")
        if order.sizing == "equity" and (walks or order.left is not None) and quantity > 0:
            most = multiple(max(self.power(), 0.0) / (price * with_fee), market.terms.lot, "down")
            wanted = min(wanted, most)
            quantity = min(quantity, wanted)
        turns = market.held * side < 0
        closing = min(quantity, abs(market.held)) if turns else 0.0
        opening = multiple(quantity - closing, market.terms.lot, "nearest") if turns else quantity
        if (turns and order.sizing != "quantity") or not self.can(order, source, wanted, opening, price):
            self.rejected += 1
            self.orders.remove(order)
            return
        if quantity > 0:
            if walks:
                price = self.walk(market, side, quantity, True)[0]
                price, source = self.ticked(market, price, side), "book"
            market.volume -= quantity
            market.taken += quantity if source == "queue" else 0.0
            facts = {
                "kind": order.kind,
                "reason": order.reason,
                "source": source,
                "liquidity": due["liquidity"],
                "time": due["time"],
                "order": order.number,
            }
            if closing > 0:
                self.reduce(order.instrument, closing, price, **facts)
            if opening > 0:
                if due["time"] < self.time and not market.held:
                    market.entered_inside = True
                self.add(order.instrument, side, opening, price, **facts)
            self.rest(order, wanted, quantity)
        if order.at_once and order in self.orders:
            self.orders.remove(order)

    def wanted(self, order: Order, market: Market, price: float) -> float:
        if order.left is not None:
            return order.left
        quantity = order.size
        if order.sizing == "equity":
            amount = min(order.size * (self.rules.leverage * self.equity()), self.power())
            quantity = amount / (price * (1.0 + market.terms.taker))
        elif order.sizing == "quote":
            quantity = order.size / (price * (1.0 + market.terms.taker))
        return multiple(quantity, market.terms.lot, "down")

    def can(self, order: Order, source: str, wanted: float, opening: float, price: float) -> bool:
        market = self.markets[order.instrument]
        if wanted <= 0:
            return False
        if opening <= 0:
            return True
        open_now = sum(1 for m in self.markets if m.held)
        full = self.rules.most_open and not market.held and open_now >= self.rules.most_open
        asked = opening
        if source == "queue":
            asked = wanted if order.left is None else math.inf
        if full or (order.side < 0 and not self.rules.shorts) or asked * price < market.terms.least:
            return False
        return opening * price * (1.0 + market.terms.taker) <= self.power() * (1.0 + 1e-9)

    # The books.

    def reduce(self, instrument, quantity, price, *, liquidity, **facts) -> None:
        market = self.markets[instrument]
        rate = market.terms.maker if liquidity == "maker" else market.terms.taker
        held = market.held
        whole = quantity >= abs(held)
        part = held if whole else math.copysign(quantity, held)
        fee = abs(part) * price * rate
        gross = part * (price - market.entry)
        self.cash = self.cash + part * (price - market.basis) - fee
        self.realised += gross
        self.fees += fee
        market.held = 0.0 if whole else multiple(held - part, market.terms.lot, "nearest")
        self.fills.append(
            {
                "instrument": instrument,
                "position": market.position,
                "side": -1 if held > 0 else 1,
                "quantity": abs(part),
                "price": price,
                "fee": fee,
                "gross": gross,
                "held": market.held,
                "funding": market.funding if whole else 0.0,
                "liquidity": liquidity,
                **facts,
            }
        )
        if whole:
            market.entry = market.basis = 0.0
            self.orders = [o for o in self.orders if o.instrument != instrument or not o.reduces]

    def add(self, instrument, side, quantity, price, *, liquidity, **facts) -> None:
        market = self.markets[instrument]
        rate = market.terms.maker if liquidity == "maker" else market.terms.taker
        fee = quantity * price * rate
        if not market.held:
            self.positions += 1
            market.position = self.positions
            market.entry, market.funding = price, 0.0
            market.basis = price if self.rules.linear else 0.0
            market.held = side * quantity
            self.cash = self.cash - side * quantity * (price - market.basis) - fee
        else:
            held = abs(market.held)
            market.entry = (held * market.entry + quantity * price) / (held + quantity)
            self.cash = self.cash - fee
            if self.rules.linear:
                market.basis = market.entry
            else:
                self.cash = self.cash - side * quantity * price
            market.held = side * multiple(held + quantity, market.terms.lot, "nearest")
        self.fees += fee
        self.fills.append(
            {
                "instrument": instrument,
                "position": market.position,
                "side": side,
                "quantity": quantity,
                "price": price,
                "fee": fee,
                "gross": 0.0,
                "held": market.held,
                "funding": 0.0,
                "liquidity": liquidity,
                **facts,
            }
        )

    def recheck(self) -> list[dict[str, Any]]:
        """The rest of a candle inside which a position was opened."""
        self.fills = []
        for instrument, market in enumerate(self.markets):
            if not market.entered_inside:
                continue
            market.entered_inside = False
            low, high = market.range
            for order in list(self.orders):
                stops = order.kind in ("stop", "trailing_stop") and order.reduces
                if order.instrument != instrument or not stops or order.side * market.held >= 0:
                    continue
                if high >= order.price if order.side > 0 else low <= order.price:
                    worst = max if order.side > 0 else min
                    price = self.worse(market, worst(market.entry, order.price), order.side)
                    facts = {"kind": order.kind, "reason": order.reason, "source": "candle_pessimistic"}
                    facts |= {"liquidity": "taker", "time": self.time - 1, "order": order.number}
                    self.reduce(instrument, abs(market.held), price, **facts)
        self.check()
        return self.fills

    def check(self) -> None:
        unrealised = sum(m.held * (m.mark - m.entry) for m in self.markets)
        other = self.rules.capital + self.realised + unrealised - self.fees + self.funding
        sizes = sum(abs(m.value) for m in self.markets) + abs(self.cash) + self.rules.capital + self.fees
        assert math.isclose(self.equity(), other, rel_tol=0, abs_tol=1e-8 * sizes)
