"""The kernel and the reference engine side by side: whatever is done to one is done to both."""

from __future__ import annotations

from typing import Any

import numpy as np
from reference import NEVER, Happening, Reference, Rules

from backtest import state as codes
from backtest.account import Account, Terms
from backtest.entries import settle
from backtest.exits import recheck
from backtest.kernel import step
from backtest.orders import cancel, submit, submit_trailing
from backtest.queue import line_up
from backtest.tape import Tape
from market import MarketType
from market.decimals import scaled

KINDS = ("close", "funding", "signal", "book", "trade", "depth", "open", "delisted", "end")
_FILL = ("instrument", "position", "order", "side", "quantity", "price", "fee", "gross", "held", "funding")


def state_of(rules: Rules) -> Any:
    """A fresh state of the kernel under these rules; rates through basis points may differ in a bit."""
    market = MarketType.LINEAR if rules.linear else MarketType.MARGIN if rules.shorts else MarketType.SPOT
    account = Account(
        capital=rules.capital,
        market_type=market,
        slippage=rules.slippage,
        queue=rules.queue,
        participation=rules.participation,
        lags=rules.lags,
        seed=rules.seed,
        leverage=rules.leverage,
        maintenance=rules.maintenance,
    )
    state = account.state([Terms()] * len(rules.terms), most_open=rules.most_open)
    state["feed"], state["order"], state["response"] = rules.feed, rules.order, rules.response
    state["book_age"] = rules.book_age
    for record, terms in zip(state["instruments"][0], rules.terms, strict=False):
        for name in ("taker", "maker", "slippage", "least"):
            record[name] = getattr(terms, name)
        for name in ("lot", "tick"):
            digits, scale = scaled(float(getattr(terms, name)))
            record[f"{name}_digits"], record[f"{name}_scale"] = digits, 10**scale
    return state


def named(fill: Any) -> dict[str, Any]:
    """A fill of the kernel in the reference's words."""
    return {
        **{name: fill[name].item() for name in _FILL},
        "kind": codes.ORDER_KINDS[fill["kind"]],
        "reason": codes.REASONS[fill["reason"]],
        "source": codes.SOURCES[fill["source"]],
        "liquidity": codes.LIQUIDITY[fill["liquidity"]],
        "time": fill["timestamp"].item(),
    }


def tape_of(happenings: list[Happening]) -> Tape:
    """As `backtest.tape.merge` would: what happens, one after the other."""

    def column(name: str, kind: type) -> Any:
        return np.array([getattr(each, name) for each in happenings], dtype=kind)

    levels = [i for i, each in enumerate(happenings) if each.kind == "depth" and abs(each.signal) == 1]
    levels.sort(key=lambda i: (happenings[i].instrument, happenings[i].signal, happenings[i].price, i))
    none = np.zeros((0, 2, codes.MAX_LEVELS))
    return Tape(
        np.array([KINDS.index(each.kind) for each in happenings], dtype=np.int8),
        column("instrument", np.int16),
        column("time", np.int64),
        column("start", np.int64),
        *(column(name, np.float64) for name in ("price", "high", "low", "size")),
        column("signal", np.int8),
        np.array([codes.SOURCES.index(each.source) for each in happenings], dtype=np.int8),
        np.zeros(len(happenings), dtype=np.int32),
        none,
        none,
        np.array(levels, dtype=np.int64),
    )


class Pair:
    """Both engines; every method asserts that they agree on all there is to see, bit for bit."""

    def __init__(self, rules: Rules) -> None:
        self.state = state_of(rules)
        self.now = self.state[0]
        self.reference = Reference(rules)
        self.fills: list[dict[str, Any]] = []
        self.several = len(rules.terms) > 1
        self.seen: list[Happening] = []

    def happen(self, event: Happening) -> list[dict[str, Any]]:
        if self.reference.rules.queue != "none":
            self.seen.append(event)
            line_up(self.now, tape_of(self.seen), len(self.seen) - 1)
        if event.kind == "book":
            one = self.now["instruments"][event.instrument]
            one["bids"], one["asks"] = 0.0, 0.0
            for name, levels in (("bids", event.bids), ("asks", event.asks)):
                one[name][:, : len(levels)] = np.array(levels).T.reshape(2, -1)
        step(
            self.now,
            codes.Event(
                KINDS.index(event.kind),
                event.instrument,
                event.time,
                event.start,
                event.price,
                event.high,
                event.low,
                event.size,
                event.signal,
                codes.SOURCES.index(event.source),
            ),
        )
        return self._agreed(self.reference.happen(event))

    def settle(self) -> list[dict[str, Any]]:
        """The entries of an instant, of several instruments."""
        before = len(self.reference.fills)
        settle(self.now)
        self.reference.settle()
        return self._agreed(self.reference.fills, before)

    def recheck(self) -> list[dict[str, Any]]:
        recheck(self.now)
        return self._agreed(self.reference.recheck())

    def _agreed(self, expected: list[dict[str, Any]], before: int = 0) -> list[dict[str, Any]]:
        now, reference = self.now, self.reference
        assert codes.ERRORS[now["error"]] == ""
        assert [named(fill) for fill in now["fills"][: now["fill_count"]]] == expected
        assert (now["cash"], now["realised"], now["fees"], now["funding"]) == (
            reference.cash,
            reference.realised,
            reference.fees,
            reference.funding,
        )
        assert now["rejected"] == reference.rejected
        for record, market in zip(now["instruments"], reference.markets, strict=False):
            assert (record["quantity"], record["entry"], record["basis"], record["mark"]) == (
                market.held,
                market.entry,
                market.basis,
                market.mark,
            )
        standing = now["orders"][: now["order_count"]]
        assert [(o["number"], o["price"], o["left"] if o["begun"] else None) for o in standing] == [
            (o.number, o.price, o.left) for o in reference.orders
        ]
        assert [o["ahead"] for o in standing] == [o.line.ahead if o.line else -1.0 for o in reference.orders]
        new = expected[before:]
        self.fills += new
        return new

    def submit(
        self,
        kind: str,
        side: int,
        *,
        instrument: int = 0,
        reduces: bool = False,
        reason: str = "signal",
        price: float = 0.0,
        sizing: str = "quantity",
        size: float = 0.0,
        until: int = NEVER,
        at_once: bool = False,
        group: int = 0,
        confidence: float = 0.0,
    ) -> None:
        place = submit(
            self.now,
            instrument,
            codes.ORDER_KINDS.index(kind),
            side,
            int(reduces),
            codes.REASONS.index(reason),
            price,
            codes.SIZINGS.index(sizing),
            size,
        )
        order = self.reference.submit(instrument, kind, side, reduces, reason, price, sizing, size)
        if order is None:
            return
        record = self.now["orders"][place]
        record["until"], record["at_once"], record["group"] = until, at_once, group
        record["confidence"] = confidence
        order.until, order.at_once, order.group, order.confidence = until, at_once, group, confidence

    def trail(self, side: int, trail: float, *, instrument: int = 0, on_close: bool = False) -> None:
        submit_trailing(self.now, instrument, side, trail, int(on_close))
        self.reference.submit_trailing(instrument, side, trail, on_close)

    def cancel(self, kind: str, instrument: int = 0) -> None:
        cancel(self.now, instrument, codes.ORDER_KINDS.index(kind))
        self.reference.cancel(instrument, kind)
