"""The rules of the queue on docs/fills.md, on the kernel and the reference engine at once."""

from pair import Pair
from reference import Happening, Rules, Terms


class Line:
    """A book of which every change is known: bids of 5 at 99 and 8 at 98, asks of 4 at 101 and 6 at 102."""

    def __init__(self, queue="pessimistic", terms=None, **rules) -> None:
        self.pair = Pair(Rules(terms=(terms or Terms(),), queue=queue, shorts=True, **rules))
        self.second = 0
        self.change((2, 98.0, 0.0), (-2, 102.0, 0.0), (1, 99.0, 5.0), (1, 98.0, 8.0))
        self.change((-1, 101.0, 4.0), (-1, 102.0, 6.0), (0, 0.0, 1.0), wait=0)

    def change(self, *rows, wait=1):
        self.second += wait
        for side, price, size in rows:
            assert self._happen("depth", price, signal=side, size=size) == []

    def trade(self, price, size, side=-1):
        self.second += 1
        return self._happen("trade", price, signal=side, size=size)

    def _happen(self, kind, price, **facts):
        bid, ask = (99.0, 101.0) if kind == "depth" else (price, price)
        time = self.second * 1_000_000
        return self.pair.happen(Happening(kind, 0, time, time, price, low=bid, high=ask, **facts))

    def buy(self, price, size, **more):
        self.pair.submit("limit", 1, price=price, size=size, **more)

    @property
    def ahead(self):
        return [order.line and order.line.ahead for order in self.pair.reference.orders]


def filled(fills):
    return [(fill["quantity"], fill["price"], fill["source"], fill["liquidity"]) for fill in fills]


def test_an_order_joins_behind_what_its_level_shows():
    line = Line()
    line.buy(98.0, 1.0)
    line.buy(98.5, 1.0)
    line.pair.submit("limit", -1, price=102.0, size=1.0)
    line.trade(100.0, 1.0)
    assert line.ahead == [8.0, 0.0, 6.0]


def test_a_trade_consumes_what_stands_before_it_then_fills_it():
    line = Line()
    line.buy(99.0, 3.0)
    assert line.trade(99.0, 4.0) == []
    assert line.trade(99.0, 7.0, side=1) == []
    assert line.trade(99.0, 1.0) == []
    assert filled(line.trade(99.0, 2.0)) == [(2.0, 99.0, "queue", "maker")]
    assert filled(line.trade(99.0, 2.0)) == [(1.0, 99.0, "queue", "maker")]


def test_a_target_stands_in_line_as_well():
    line = Line()
    line.pair.submit("market", 1, size=2.0)
    line.trade(100.0, 9.0)
    line.pair.submit("take_profit", -1, price=101.0, reduces=True, reason="take_profit")
    assert line.trade(101.0, 4.0, side=1) == []
    (fill,) = line.trade(101.0, 9.0, side=1)
    assert (fill["held"], fill["reason"], fill["source"]) == (0.0, "take_profit", "queue")


def test_a_trade_through_fills_what_waits_in_line():
    line = Line()
    line.buy(99.0, 3.0)
    assert filled(line.trade(98.5, 0.1)) == [(3.0, 99.0, "trade", "maker")]


def test_what_is_cancelled_stood_behind_the_order():
    line = Line()
    line.buy(99.0, 3.0)
    line.change((1, 99.0, 9.0))
    line.change((1, 99.0, 6.0))
    assert line.ahead == [5.0]
    line.change((1, 99.0, 3.0))
    assert line.ahead == [3.0]


def test_what_is_cancelled_can_be_taken_from_everywhere_alike():
    line = Line("pro_rata")
    line.buy(99.0, 3.0)
    line.change((1, 99.0, 10.0))
    line.trade(99.0, 2.0)
    # 8 are expected, 6 are there: a quarter was cancelled, of the 3 before the order as well.
    line.change((1, 99.0, 6.0))
    assert line.ahead == [3.0 * (6.0 / 8.0)]


def test_what_is_traded_is_not_cancelled_too():
    line = Line("pro_rata")
    line.buy(99.0, 3.0)
    line.trade(99.0, 2.0)
    line.change((1, 99.0, 3.0))
    assert line.ahead == [3.0]


def test_who_comes_again_stands_at_the_back():
    line = Line()
    line.buy(99.0, 3.0)
    line.trade(99.0, 4.0)
    line.change((1, 99.0, 20.0))
    line.pair.cancel("limit")
    line.buy(99.0, 3.0)
    line.trade(100.0, 1.0)
    assert line.ahead == [20.0]


def test_an_order_joins_when_it_arrives():
    line = Line(order=2_500_000)
    line.buy(99.0, 3.0)
    line.change((1, 99.0, 7.0))
    assert line.trade(99.0, 30.0) == []
    assert line.ahead == [None]
    line.change((1, 99.0, 2.0))
    assert line.ahead == [2.0]


def test_what_takes_does_not_stand_in_line():
    line = Line()
    line.buy(101.0, 3.0)
    assert filled(line.trade(100.0, 1.0)) == [(3.0, 100.0, "trade", "taker")]


def test_ones_own_orders_share_a_trade():
    line = Line()
    line.buy(99.0, 3.0)
    line.buy(99.0, 3.0)
    assert [quantity for quantity, *_ in filled(line.trade(99.0, 9.0))] == [3.0, 1.0]


def test_parts_are_as_small_as_trades_make_them():
    line = Line(terms=Terms(lot="0.5", least=150.0))
    line.buy(99.0, 3.0)
    line.buy(98.0, 1.0)
    assert line.trade(99.0, 5.25) == []
    assert [quantity for quantity, *_ in filled(line.trade(99.0, 0.75))] == [0.5]
    assert line.trade(98.0, 8.0)[0]["quantity"] == 2.5
    assert line.trade(98.0, 1.0) == []
    assert line.pair.reference.rejected == 1


def test_a_book_that_is_not_known_gives_no_estimate():
    line = Line()
    line.buy(99.0, 1.0)
    line.trade(100.0, 1.0)
    line.change((0, 0.0, 0.0))
    line.buy(98.0, 1.0)
    assert line.trade(99.0, 50.0) == []
    assert line.ahead == [5.0, None]
    line.change((1, 99.0, 4.0), (0, 0.0, 1.0))
    line.trade(100.0, 1.0)
    assert line.ahead == [4.0, 8.0]
    line.change((0, 0.0, 0.0))
    assert filled(line.trade(98.5, 1.0)) == [(1.0, 99.0, "trade", "maker")]


def test_a_level_out_of_sight_gives_no_estimate():
    line = Line()
    line.buy(97.0, 1.0)
    line.buy(98.0, 1.0)
    line.trade(100.0, 1.0)
    assert line.ahead == [None, 8.0]
    line.change((2, 99.0, 0.0), (1, 98.0, 0.0))
    assert line.ahead == [None, 8.0]
    line.change((2, 97.0, 0.0), (1, 98.0, 7.0), (1, 97.0, 20.0))
    line.trade(100.0, 1.0)
    assert line.ahead == [20.0, 7.0]


def test_the_example_of_the_page():
    line = Line()
    line.buy(99.0, 3.0)
    assert line.trade(99.0, 4.0) == []
    line.change((1, 99.0, 4.0))
    assert line.ahead == [1.0]
    assert filled(line.trade(99.0, 3.0)) == [(2.0, 99.0, "queue", "maker")]
    line.change((1, 99.0, 1.0))
    line.change((1, 99.0, 0.0))
    assert line.ahead == [0.0]
    assert filled(line.trade(99.0, 2.0)) == [(1.0, 99.0, "queue", "maker")]
