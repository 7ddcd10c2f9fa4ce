"""Each rule of docs/fills.md by itself, on the kernel and the reference engine at once."""

import re
from pathlib import Path

import pytest
from pair import Pair
from reference import Happening, Rules, Terms

from backtest.account import Account
from backtest.account import Terms as Costs
from market import MarketType, WrongUse

MINUTE = 60_000_000
PAGE = Path(__file__).parents[2] / "docs" / "fills.md"
FILES = (Path(__file__), Path(__file__).with_name("test_queue.py"))


class Market:
    """Minutes of one or more instruments for a pair of engines."""

    def __init__(self, terms=None, **rules) -> None:
        self.pair = Pair(Rules(terms=tuple(terms or [Terms()]), **rules))
        self.minute = 0
        self.book((99.5, 100.0), (100.5, 100.0), size=0.0) if rules.get("slippage") == "spread" else None

    def happen(self, kind, price, *, at=None, instrument=0, **facts):
        time = self.minute * MINUTE if at is None else at
        facts = {"start": time, "high": price, "low": price} | facts
        return self.pair.happen(Happening(kind, instrument, time, price=price, **facts))

    def open(self, price, size=0.0, instrument=0):
        return self.happen("open", price, size=size, instrument=instrument)

    def close(self, high, low, price, instrument=0, source="candle"):
        start, end = self.minute * MINUTE, (self.minute + 1) * MINUTE
        return self.happen(
            "close", price, at=end, instrument=instrument, start=start, high=high, low=low, source=source
        )

    def candle(self, open_, high, low, close, size=0.0):
        fills = self.open(open_, size) + self.close(high, low, close)
        self.minute += 1
        return fills

    def flat(self, size=0.0):
        return self.candle(100.0, 101.0, 99.0, 100.0, size)

    def trade(self, price, second, size=1.0):
        return self.happen("trade", price, at=self.minute * MINUTE + second * 1_000_000, size=size)

    def book(self, *bids_asks, size=100.0):
        (bid, _), (ask, _) = bids_asks[0], bids_asks[-1]
        half = len(bids_asks) // 2
        bids, asks = tuple(bids_asks[:half]), tuple(bids_asks[half:])
        bid, ask = bids[0][0], asks[0][0]
        return self.happen("book", (bid + ask) / 2, high=ask, low=bid, bids=bids, asks=asks)

    def long(self, size=1.0):
        """Hold a long from 100 on, bought at this minute's open."""
        self.pair.submit("market", 1, size=size)
        return self.flat()

    def short(self, size=1.0):
        self.pair.submit("market", -1, size=size)
        return self.flat()


def short(**rules):
    return Market(shorts=True, **rules)


def told(fills):
    return [(fill["price"], fill["reason"], fill["source"]) for fill in fills]


# Market orders.


def test_an_order_fills_at_the_next_open():
    market = Market()
    market.flat()
    market.pair.submit("market", 1, size=1.0)
    (fill,) = market.candle(103.0, 104.0, 102.0, 102.5)
    assert (fill["price"], fill["source"], fill["time"]) == (103.0, "next_open", MINUTE)


def test_slippage_is_against_the_order():
    market = Market([Terms(slippage=0.01)], shorts=True)
    market.pair.submit("market", 1, size=1.0)
    assert market.flat()[0]["price"] == 100.0 * 1.01
    market.pair.submit("market", -1, size=2.0)
    assert [fill["price"] for fill in market.flat()] == [100.0 * 0.99] * 2


def test_half_the_last_spread_is_slippage():
    market = Market(slippage="spread")
    market.pair.submit("market", 1, size=1.0)
    assert market.flat()[0]["price"] == 100.5


def test_the_stored_book_is_walked():
    market = Market(slippage="walk", book_age=2_000_000)
    market.book((99.0, 1.0), (98.0, 1.0), (101.0, 1.0), (103.0, 1.0))
    market.pair.submit("market", 1, size=2.0)
    (fill,) = market.open(100.0)
    assert (fill["price"], fill["source"]) == (102.0, "book")


def test_what_a_book_does_not_hold_waits():
    market = Market(slippage="walk", book_age=2_000_000)
    market.pair.submit("market", 1, size=3.0)
    (fill,) = market.book((99.0, 1.0), (101.0, 2.0))
    assert (fill["quantity"], fill["held"]) == (2.0, 2.0)
    assert market.open(100.0) == []
    (fill,) = market.happen("book", 100.0, at=1, high=102.0, low=99.0, asks=((102.0, 5.0),))
    assert (fill["quantity"], fill["price"]) == (1.0, 102.0)


def test_a_book_that_is_too_old_is_not_walked():
    market = Market([Terms(slippage=0.01)], slippage="walk", book_age=2_000_000)
    market.book((99.0, 1.0), (101.0, 2.0))
    market.minute = 1
    market.pair.submit("market", 1, size=1.0)
    assert told(market.open(100.0)) == [(101.0, "signal", "next_open")]


def test_a_market_order_fills_at_the_next_trade():
    market = Market()
    market.pair.submit("market", 1, size=1.0)
    assert told(market.trade(100.5, 1)) == [(100.5, "signal", "trade")]


def test_no_fill_inside_a_hole():
    market = Market()
    market.flat()
    market.pair.submit("market", 1, size=1.0)
    market.minute = 5
    (fill,) = market.candle(90.0, 91.0, 89.0, 90.0)
    assert (fill["price"], fill["time"]) == (90.0, 5 * MINUTE)


def test_latency_passes_before_an_open_is_legal():
    market = Market(feed=1_000, order=2_000)
    market.flat()
    market.pair.submit("market", 1, size=1.0)
    assert market.flat() == []
    assert market.flat()[0]["time"] == 2 * MINUTE
    market = Market(feed=1_000, order=2_000)
    market.flat()
    market.pair.submit("market", 1, size=1.0)
    market.open(100.0)
    assert market.trade(101.0, 0) == []
    assert market.trade(102.0, 1)[0]["price"] == 102.0


def test_latency_is_drawn_from_recorded_lags():
    market = Market(lags=(5_000_000, 90_000_000), seed=3)
    for _ in range(20):
        market.pair.submit("market", 1, size=0.1)
    waits = {int(order["since"]) for order in market.pair.now["orders"][:20]}
    assert waits == {10_000_000, 95_000_000, 180_000_000}


# Stops.


def test_a_stop_fills_at_its_price():
    market = Market()
    market.long()
    market.pair.submit("stop", -1, reduces=True, reason="stop_loss", price=98.0)
    (fill,) = market.candle(100.0, 101.0, 98.0, 100.0)
    assert (fill["price"], fill["source"]) == (98.0, "candle")
    assert fill["time"] == 2 * MINUTE - 1


def test_a_gap_through_a_stop_fills_at_the_open():
    market = Market()
    market.long()
    market.pair.submit("stop", -1, reduces=True, reason="stop_loss", price=98.0)
    (fill,) = market.candle(95.0, 96.0, 94.0, 95.0)
    assert (fill["price"], fill["time"]) == (95.0, MINUTE)


def test_a_gap_through_a_shorts_stop_is_the_mirror():
    market = short()
    market.short()
    market.pair.submit("stop", 1, reduces=True, reason="stop_loss", price=102.0)
    assert told(market.candle(105.0, 106.0, 104.0, 105.0)) == [(105.0, "stop_loss", "candle")]


def test_a_stop_inside_a_hole_fills_at_the_first_event_after_it():
    market = Market()
    market.long()
    market.pair.submit("stop", -1, reduces=True, reason="stop_loss", price=98.0)
    market.minute = 7
    (fill,) = market.candle(80.0, 96.0, 80.0, 95.0)
    assert (fill["price"], fill["time"]) == (80.0, 7 * MINUTE)


def test_of_stops_the_nearest_fills():
    market = Market()
    market.long()
    for price in (97.0, 98.0, 96.0):
        market.pair.submit("stop", -1, reduces=True, reason="stop_loss", price=price)
    assert [fill["price"] for fill in market.candle(100.0, 101.0, 90.0, 95.0)] == [98.0]


def test_the_candle_of_the_entry_can_stop_it():
    market = Market()
    market.pair.submit("market", 1, size=1.0)
    market.open(100.0)
    market.pair.submit("stop", -1, reduces=True, reason="stop_loss", price=98.0)
    assert told(market.close(101.0, 97.0, 100.0)) == [(98.0, "stop_loss", "candle")]


def test_a_stop_that_arrives_inside_a_candle_has_seen_its_worst():
    market = Market(order=1_000)
    market.pair.submit("market", 1, size=1.0)
    market.trade(100.0, 1)
    market.pair.submit("stop", -1, reduces=True, reason="stop_loss", price=98.0)
    assert told(market.close(101.0, 97.0, 100.0)) == [(98.0, "stop_loss", "candle_pessimistic")]


def test_an_entry_inside_a_candle_can_be_stopped_in_it():
    market = Market()
    market.flat()
    market.pair.submit("limit", 1, size=1.0, price=99.0)
    market.open(100.0)
    assert len(market.close(103.0, 97.0, 100.0)) == 1
    market.pair.submit("stop", -1, reduces=True, reason="stop_loss", price=98.0)
    assert told(market.pair.recheck()) == [(98.0, "stop_loss", "candle_pessimistic")]


def test_stop_and_target_in_one_candle_is_the_stop():
    market = Market()
    market.long()
    market.pair.submit("stop", -1, reduces=True, reason="stop_loss", price=98.0)
    market.pair.submit("take_profit", -1, reduces=True, reason="take_profit", price=102.0)
    assert told(market.candle(100.0, 103.0, 97.0, 100.0)) == [(98.0, "stop_loss", "candle_pessimistic")]


def test_trades_say_which_came_first():
    market = Market()
    market.long()
    market.pair.submit("stop", -1, reduces=True, reason="stop_loss", price=98.0)
    market.pair.submit("take_profit", -1, reduces=True, reason="take_profit", price=102.0)
    market.open(100.0)
    assert told(market.trade(103.0, 10)) == [(102.0, "take_profit", "trade")]
    assert market.close(103.0, 97.0, 100.0, source="close") == []


def test_a_finer_candle_says_which_came_first():
    market = Market()
    market.long()
    market.pair.submit("stop", -1, reduces=True, reason="stop_loss", price=98.0)
    market.pair.submit("take_profit", -1, reduces=True, reason="take_profit", price=102.0)
    market.open(100.0)
    start = MINUTE
    fine = {"start": start, "high": 103.0, "low": 99.0, "source": "lower_timeframe"}
    found = market.happen("close", 102.5, at=start + 15_000_000, **fine)
    assert told(found) == [(102.0, "take_profit", "lower_timeframe")]


def test_a_stop_can_open():
    market = Market()
    market.flat()
    market.pair.submit("stop", 1, size=1.0, price=101.5)
    (fill,) = market.candle(100.0, 102.0, 99.0, 100.0)
    assert (fill["price"], fill["liquidity"]) == (101.5, "taker")


# Limits and targets.


def test_touched_is_not_filled():
    market = Market()
    market.flat()
    market.pair.submit("limit", 1, size=1.0, price=99.0)
    assert market.flat() == []
    (fill,) = market.candle(100.0, 101.0, 98.99, 100.0)
    assert (fill["price"], fill["liquidity"]) == (99.0, "maker")


def test_a_gap_gives_a_resting_limit_no_better_price():
    market = Market()
    market.long()
    market.pair.submit("take_profit", -1, reduces=True, reason="take_profit", price=102.0)
    (fill,) = market.candle(110.0, 111.0, 109.0, 110.0)
    assert (fill["price"], fill["liquidity"], fill["time"]) == (102.0, "maker", MINUTE)


def test_a_limit_beyond_the_market_takes():
    market = Market([Terms(taker=0.001, slippage=0.01)])
    market.flat()
    market.pair.submit("limit", 1, size=1.0, price=100.5)
    (fill,) = market.flat()
    assert (fill["price"], fill["liquidity"], fill["source"]) == (100.5, "taker", "candle")


def test_a_book_beyond_a_limit_fills_it():
    market = Market()
    market.flat()
    market.pair.submit("limit", 1, size=1.0, price=99.0)
    market.book((98.0, 1.0), (99.5, 1.0))
    (fill,) = market.book((98.0, 1.0), (98.5, 1.0))
    assert (fill["price"], fill["liquidity"], fill["source"]) == (99.0, "maker", "book")


# Trailing stops.


def test_a_trailing_stop_follows_the_high_for_what_comes_after():
    market = Market()
    market.long()
    market.pair.trail(-1, 0.02)
    assert market.candle(100.0, 110.0, 99.0, 109.0) == []
    (fill,) = market.candle(109.0, 109.5, 107.0, 108.0)
    assert (fill["price"], fill["reason"]) == (110.0 * 0.98, "trailing_stop")


def test_a_trailing_stop_can_follow_closes():
    market = Market()
    market.long()
    market.pair.trail(-1, 0.02, on_close=True)
    market.candle(100.0, 110.0, 99.0, 105.0)
    (fill,) = market.candle(105.0, 109.5, 102.0, 108.0)
    assert fill["price"] == 105.0 * 0.98


# What becomes of orders.


def test_one_cancels_the_other():
    market = Market()
    market.flat()
    market.pair.submit("limit", 1, size=1.0, price=98.0, group=1)
    market.pair.submit("stop", 1, size=1.0, price=102.0, group=1)
    assert len(market.candle(100.0, 103.0, 99.0, 100.0)) == 1
    assert market.candle(100.0, 101.0, 90.0, 95.0) == []


def test_reducing_never_turns_a_position():
    market = short()
    market.long(2.0)
    market.pair.submit("market", -1, reduces=True, size=5.0)
    market.pair.submit("market", -1, reduces=True, size=5.0)
    (fill,) = market.flat()
    assert (fill["quantity"], fill["held"]) == (2.0, 0.0)


def test_what_reduces_goes_with_its_position():
    market = Market()
    market.long()
    market.pair.submit("stop", -1, reduces=True, price=90.0)
    market.pair.submit("market", -1, reduces=True)
    market.flat()
    assert not market.pair.reference.orders


def test_an_order_ends_in_time():
    market = Market()
    market.flat()
    market.pair.submit("limit", 1, size=1.0, price=99.0, until=2 * MINUTE - 1)
    assert market.candle(100.0, 101.0, 90.0, 100.0) == []
    assert not market.pair.reference.orders


def test_what_is_not_filled_at_once_is_cancelled():
    market = Market()
    market.flat()
    market.pair.submit("limit", 1, size=1.0, price=99.5, at_once=True)
    assert market.candle(100.0, 101.0, 90.0, 100.0) == []
    assert not market.pair.reference.orders


def test_a_cancellation_takes_its_time():
    market = Market(order=1_000)
    market.flat()
    market.pair.submit("limit", 1, size=1.0, price=99.0)
    market.flat()
    market.pair.cancel("limit")
    assert len(market.candle(98.0, 101.0, 90.0, 100.0)) == 1


def test_a_fill_takes_its_share_of_the_volume():
    market = Market(participation=0.1)
    market.pair.submit("market", 1, size=3.0)
    assert [fill["quantity"] for fill in market.flat(size=20.0)] == [2.0]
    assert [fill["quantity"] for fill in market.flat(size=20.0)] == [1.0]


# Amounts.


def test_quantity_is_rounded_down_to_the_lot():
    market = Market([Terms(lot="0.1")], capital=1_000.0)
    market.pair.submit("market", 1, sizing="equity", size=1.0)
    (fill,) = market.candle(3.0, 3.0, 3.0, 3.0)
    assert fill["quantity"] == 333.3


def test_prices_are_rounded_to_the_tick_against_the_order():
    market = Market([Terms(tick="0.25", slippage=0.001)])
    market.pair.submit("market", 1, size=1.0)
    assert market.flat()[0]["price"] == 100.25
    market.pair.submit("take_profit", -1, reduces=True, price=102.1)
    market.pair.submit("stop", -1, reduces=True, price=98.1)
    assert [order.price for order in market.pair.reference.orders] == [102.25, 98.0]


def test_less_than_a_lot_or_the_minimum_is_rejected():
    market = Market([Terms(lot="1", least=150.0)], capital=1_000.0)
    market.pair.submit("market", 1, size=0.9)
    market.pair.submit("market", 1, size=1.0)
    assert market.flat() == []
    assert market.pair.reference.rejected == 2


def test_fees_take_the_side_of_the_liquidity():
    market = Market([Terms(taker=0.001, maker=0.0002)])
    market.pair.submit("market", 1, size=2.0)
    assert market.flat()[0]["fee"] == 2.0 * 100.0 * 0.001
    market.pair.submit("take_profit", -1, reduces=True, price=101.0)
    assert market.candle(100.0, 105.0, 100.0, 104.0)[0]["fee"] == 2.0 * 101.0 * 0.0002


def test_a_share_of_the_equity_has_its_fee_inside():
    market = Market([Terms(taker=0.01)], capital=1_010.0)
    market.pair.submit("market", 1, sizing="equity", size=1.0)
    (fill,) = market.flat()
    assert fill["quantity"] == pytest.approx(10.0)
    assert market.pair.reference.cash == pytest.approx(0.0)


def test_adding_makes_the_mean_the_entry():
    market = Market()
    market.long(1.0)
    market.pair.submit("market", 1, size=3.0)
    (fill,) = market.candle(104.0, 105.0, 103.0, 104.0)
    assert (fill["position"], fill["held"], market.pair.reference.markets[0].entry) == (1, 4.0, 103.0)


def test_what_is_not_paid_for_is_rejected():
    market = Market(capital=150.0)
    market.pair.submit("market", 1, size=2.0)
    assert market.flat() == []
    assert market.pair.reference.rejected == 1


def test_spot_has_no_shorts():
    market = Market()
    market.pair.submit("market", -1, size=1.0)
    assert market.flat() == []
    assert market.pair.reference.rejected == 1


def test_an_opposite_order_turns_a_position_in_two_fills():
    market = short()
    market.long(1.0)
    market.pair.submit("market", -1, size=3.0)
    first, second = market.flat()
    assert (first["quantity"], first["held"], first["position"]) == (1.0, 0.0, 1)
    assert (second["quantity"], second["held"], second["position"]) == (2.0, -2.0, 2)


# Linear contracts.


def test_leverage_bounds_what_is_held():
    market = short(linear=True, leverage=3.0, capital=1_000.0)
    market.pair.submit("market", 1, size=30.0)
    market.pair.submit("market", 1, size=1.0)
    assert [fill["quantity"] for fill in market.flat()] == [30.0]
    assert market.pair.reference.rejected == 1


def test_what_has_no_equity_left_is_liquidated():
    market = short(linear=True, leverage=10.0, maintenance=0.05, capital=1_000.0)
    market.pair.submit("market", 1, size=50.0)
    market.flat()
    (fill,) = market.candle(100.0, 100.0, 80.0, 90.0)
    # 1,000 + 50 · (p − 100) = 0.05 · 50 · p
    assert fill["reason"] == "liquidation"
    assert fill["price"] == pytest.approx(4_000.0 / 47.5)


def test_a_short_whose_equity_is_gone_is_liquidated():
    market = short(capital=1_000.0)
    market.short(10.0)
    assert told(market.candle(100.0, 250.0, 100.0, 240.0)) == [(200.0, "liquidation", "candle")]


def test_longs_pay_funding_to_shorts():
    market = short(linear=True)
    market.short(2.0)
    market.happen("funding", 0.0, size=0.001)
    assert market.pair.reference.funding == 2.0 * 100.0 * 0.001
    market.pair.submit("market", 1, reduces=True)
    assert market.flat()[0]["funding"] == 0.2


# Several instruments.


def several(**rules):
    return Market([Terms(), Terms(), Terms()], **rules)


def opens(market, *prices):
    for instrument, price in enumerate(prices):
        market.open(price, instrument=instrument)
    return market.pair.settle()


def test_exits_come_before_entries():
    market = several(capital=100.0)
    market.pair.submit("market", 1, instrument=2, size=1.0)
    opens(market, 100.0, 100.0, 100.0)
    market.minute = 1
    market.pair.submit("market", 1, instrument=0, size=1.0)
    market.pair.submit("market", -1, instrument=2, reduces=True)
    (fill,) = opens(market, 100.0, 100.0, 100.0)
    assert fill["instrument"] == 0


def test_entries_come_by_confidence_then_symbol():
    market = several()
    for instrument, confidence in ((2, 50.0), (1, 50.0), (0, 10.0)):
        market.pair.submit("market", 1, instrument=instrument, size=1.0, confidence=confidence)
    assert [fill["instrument"] for fill in opens(market, 100.0, 100.0, 100.0)] == [1, 2, 0]


def test_more_positions_than_allowed_are_rejected():
    market = several(most_open=2)
    for instrument in range(3):
        market.pair.submit("market", 1, instrument=instrument, size=1.0, confidence=float(instrument))
    assert [fill["instrument"] for fill in opens(market, 100.0, 100.0, 100.0)] == [2, 1]


def test_a_delisting_closes_at_the_last_price():
    market = Market([Terms(slippage=0.01)])
    market.long()
    market.pair.submit("stop", -1, reduces=True, price=90.0)
    (fill,) = market.happen("delisted", 100.0)
    assert told([fill]) == [(99.0, "delisted", "close")]
    market.pair.submit("market", 1, size=1.0)
    assert market.pair.reference.rejected == 1


def test_the_end_closes_at_the_last_price():
    market = Market()
    market.long()
    assert told(market.happen("end", 1.0)) == [(100.0, "end_of_data", "close")]


# What is refused, and the page itself.


def test_what_is_not_supported_is_refused():
    with pytest.raises(WrongUse, match="inverse contracts cannot be backtested"):
        Account(market_type=MarketType.INVERSE)
    with pytest.raises(WrongUse, match="tiers of it are not supported"):
        Account(market_type=MarketType.LINEAR, leverage=20, maintenance=0.05)
    with pytest.raises(WrongUse, match="no leverage"):
        Account(leverage=2)
    with pytest.raises(WrongUse, match="at most 64 instruments"):
        Account().state([Costs()] * 65)


def test_the_page_names_every_rule_and_its_test():
    cited = re.findall(r"`(test_\w+)`", PAGE.read_text())
    text = "".join(file.read_text() for file in FILES)
    here = set(re.findall(r"^def (test_\w+)", text, re.MULTILINE))
    assert set(cited) == here - {"test_the_page_names_every_rule_and_its_test"}
    assert len(cited) == len(set(cited))
