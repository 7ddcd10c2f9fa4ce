"""Limit orders in line beside hftbacktest's risk-averse queue: the same parts, at the same events.

`pip install -e '.[peers]'` brings it; where it is missing this test is left out.
"""

import warnings

import numba
import numpy as np
import pytest
from pair import Pair
from reference import Happening, Rules

pytestmark = pytest.mark.filterwarnings("ignore")
SECOND = 1_000_000
COUNT = 150
QUANTITY = 1.0
"""The smallest: hftbacktest stops where an order that was filled in part is filled for the rest."""


def market(seed):
    """Rows of time, kind (0: a level, 1: a trade), side (of the level or the taker), price, size."""
    random = np.random.default_rng(seed)
    rows = [
        (0, side, 100.0 + step, 5.0) for side, step in ((1, -1), (1, -2), (1, -3), (-1, 1), (-1, 2), (-1, 3))
    ]
    while len(rows) < COUNT:
        side, step = int(random.choice([1, -1])), float(random.choice([1.0, 1.0, 1.0, 2.0, 3.0]))
        if random.random() < 0.5:
            rows.append((0, side, 100.0 - side * step, float(random.integers(1, 12))))
        else:
            rows.append((1, -side, 100.0 - side * step, float(random.integers(1, 6))))
    return rows


def orders(seed):
    """After which event each order is given, its side and its price.

    One a price: there each has all of a trade, here they share it.
    """
    random = np.random.default_rng(seed)
    prices = [(side, 100.0 - side * step) for side in (1, -1) for step in (1.0, 2.0, 3.0)]
    places = np.sort(random.choice(np.arange(8, COUNT // 2), len(prices), replace=False))
    return [(int(place), *prices[each]) for place, each in zip(places, random.permutation(6), strict=True)]


def ours(seed):
    """Event, number of the order and quantity of each fill."""
    pair, given = Pair(Rules(shorts=True, linear=True, leverage=100.0, queue="pessimistic")), orders(seed)
    found = []
    for side in (2, -2):
        pair.happen(Happening("depth", 0, 0, 0, 100.0 - side * 5, 99.0, 99.0, signal=side))
    pair.happen(Happening("depth", 0, 0, 0, 0.0, 101.0, 99.0, size=1.0))
    for place, (kind, side, price, size) in enumerate(market(seed)):
        time = place * SECOND
        low, high = (price, price) if kind else (99.0, 101.0)
        event = Happening(("depth", "trade")[kind], 0, time, time, price, high, low, size=size, signal=side)
        found += [(place, fill["order"], fill["quantity"]) for fill in pair.happen(event)]
        for _, order_side, order_price in (each for each in given if each[0] == place):
            pair.submit("limit", order_side, price=order_price, size=QUANTITY)
    return found


def theirs(hftbacktest, seed):
    rows, given = market(seed), orders(seed)
    both = hftbacktest.EXCH_EVENT | hftbacktest.LOCAL_EVENT
    kinds = (hftbacktest.DEPTH_EVENT, hftbacktest.TRADE_EVENT)
    events = np.zeros(len(rows), dtype=hftbacktest.types.event_dtype)
    events["exch_ts"] = events["local_ts"] = 1_000_000_000 * (1 + np.arange(len(rows)))
    for event, (kind, side, price, size) in zip(events, rows, strict=True):
        event["ev"] = kinds[kind] | both | (hftbacktest.BUY_EVENT if side > 0 else hftbacktest.SELL_EVENT)
        event["px"], event["qty"] = price, size
    asset = hftbacktest.BacktestAsset().data(events).linear_asset(1.0).tick_size(0.5).lot_size(1.0)
    asset = asset.constant_order_latency(0, 0).risk_adverse_queue_model().no_partial_fill_exchange()
    asset = asset.trading_value_fee_model(0.0, 0.0)
    left = followed(hftbacktest)(
        hftbacktest.HashMapMarketDepthBacktest([asset]),
        COUNT,
        *(np.array(column) for column in zip(*given, strict=True)),
    )
    filled = -np.diff(left, axis=0, prepend=QUANTITY)
    return [(int(i), int(n) + 1, float(filled[i, n])) for i, n in zip(*np.nonzero(filled), strict=True)]


def followed(hftbacktest):
    limit = int(hftbacktest.LIMIT)
    until_cancelled = int(hftbacktest.GTC)

    @numba.njit
    def follow(backtest, count, places, sides, prices):
        """What is left of each order after each event."""
        left = np.full((count, len(places)), 1.0)
        given = 0
        backtest.elapse(0)
        begun = backtest.current_timestamp
        for event in range(count):
            # Events are a second apart: between two of them.
            backtest.elapse(begun + event * 1_000_000_000 + 500_000_000 - backtest.current_timestamp)
            for number in range(given):
                left[event, number] = backtest.orders(0).get(number + 1).leaves_qty
            while given < len(places) and places[given] == event:
                if sides[given] > 0:
                    backtest.submit_buy_order(0, given + 1, prices[given], 1.0, until_cancelled, limit, False)
                else:
                    backtest.submit_sell_order(
                        0, given + 1, prices[given], 1.0, until_cancelled, limit, False
                    )
                given += 1
        return left

    return follow


@pytest.mark.parametrize("seed", range(5))
def test_hftbacktest_fills_in_the_same_turn(seed):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        hftbacktest = pytest.importorskip("hftbacktest", reason="it is missing: pip install -e '.[peers]'")
    found = ours(seed)
    assert sorted(theirs(hftbacktest, seed)) == sorted(found)
    assert len(found) > 2
