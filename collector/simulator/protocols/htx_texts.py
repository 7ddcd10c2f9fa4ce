"""The simulated market in HTX's words: each message's text before it is packed, as recorded ones have it."""

from functools import partial

from collector.simulator.bars import Bar, traded_moments
from collector.simulator.book import BookChange, BookState, Levels, SimulatedBook
from collector.simulator.book_view import BookView
from collector.simulator.channels import Channel
from collector.simulator.market import SimulatedMarket
from collector.simulator.tape import HOUR, Fill, fills, next_number, tied
from collector.simulator.timed import Periodic, Timed

RECALLED = 3
"""Old trades that a subscription to them begins with."""
_DEPTHS = (5, 20, 150, 400)
_BLOCK = 600_000
_SECOND = 1000
_LAG = 2
"""Milliseconds from what happens to the message's own time."""


class SymbolTexts:
    """One market's messages on each topic, and its name."""

    def __init__(self, market: SimulatedMarket) -> None:
        self.market = market
        self.book = SimulatedBook(market)
        self.name = f"{market.base}{market.quote}".lower()
        self.detail = f"market.{self.name}.trade.detail"
        self.depth = f"market.{self.name}.depth.step0"
        self.minute = f"market.{self.name}.kline.1min"
        self._views = {
            f"market.{self.name}.mbp.{depth}": BookView(self.book, depth, says_what_falls_out=True)
            for depth in _DEPTHS
        }
        symbol = market.symbol
        self.topics = {
            self.detail: Channel("trade", symbol, Periodic(HOUR, self._trades).between, self._last_trades),
            self.depth: Channel("book", symbol, Periodic(_BLOCK, self._books).between, self._last_book),
            self.minute: Channel("candle", symbol, Periodic(HOUR, self._candles).between),
        }
        """Of the endpoint /ws."""
        self.feed = {
            topic: Channel("book", symbol, Periodic(_BLOCK, partial(self._changes, topic)).between)
            for topic in self._views
        }
        """Of the endpoint /feed."""

    def price(self, ticks: int) -> str:
        """A price as a bare number."""
        return bare(ticks, self.market.price_decimals)

    def size(self, lots: int) -> str:
        """A size as a bare number."""
        return bare(lots, self.market.size_decimals)

    def quote(self, product: int) -> str:
        """Ticks × lots as an amount of the quote currency."""
        return bare(product, self.market.price_decimals + self.market.size_decimals)

    def trade(self, fill: Fill, name: str) -> str:
        """A trade, whose id of 27 digits no integer holds; `name` is what its other id is called."""
        return (
            f'{{"id":{self.sequence(fill):012d}{255_000_000_000_000 + fill.number},"ts":{fill.time},'
            f'"{name}":{fill.number},"amount":{self.size(fill.size)},"price":{self.price(fill.price)},'
            f'"direction":"{fill.side}"}}'
        )

    def sequence(self, fill: Fill) -> int:
        """Counts trades and book updates."""
        return 100_000_000_000 + fill.number + fill.time // _SECOND * 64

    def candle(self, bar: Bar) -> str:
        """A candle, named by the second in which it opens."""
        price = self.price
        return (
            f'{{"id":{bar.open_time // 1000},"open":{price(bar.open)},"close":{price(bar.close)},'
            f'"low":{price(bar.low)},"high":{price(bar.high)},"amount":{self.size(bar.size)},'
            f'"vol":{self.quote(bar.quote)},"count":{bar.count}}}'
        )

    def whole(self, state: BookState) -> str:
        """A whole book."""
        return (
            f'{{"bids":{self._levels(state.bids)},"asks":{self._levels(state.asks)},'
            f'"version":{state.update_id},"ts":{state.second * _SECOND}}}'
        )

    def refreshed(self, topic: str, now: int) -> list[str]:
        """The answer to a request for the whole book of an incremental topic."""
        state = self._views[topic].state((now - 1) // _SECOND)
        bids, asks = self._levels(state.bids), self._levels(state.asks)
        data = f'{{"seqNum":{state.update_id},"bids":{bids},"asks":{asks}}}'
        return [f'{{"rep":"{topic}","status":"ok","ts":{now},"data":{data}}}']

    def _trades(self, hour: int) -> Timed:
        groups = list(tied(self.market.trades(hour)))
        return Timed([group[0].time for group in groups], list(map(self._detail, groups)))

    def _last_trades(self, now: int) -> list[str]:
        end = next_number(self.market, now)
        return [self._detail(list(fills(self.market, end - RECALLED, end)))]

    def _detail(self, group: list[Fill]) -> str:
        """Newest first."""
        newest = group[-1]
        rows = ",".join(self.trade(fill, "tradeId") for fill in reversed(group))
        tick = f'{{"id":{self.sequence(newest)},"ts":{newest.time},"data":[{rows}]}}'
        return _told(self.detail, newest.time, tick)

    def _books(self, block: int) -> Timed:
        seconds = range(block * _BLOCK // _SECOND, (block + 1) * _BLOCK // _SECOND)
        return Timed([second * _SECOND for second in seconds], list(map(self._book, seconds)))

    def _last_book(self, now: int) -> list[str]:
        return [self._book((now - 1) // _SECOND)]

    def _book(self, second: int) -> str:
        return _told(self.depth, second * _SECOND, self.whole(self.book.state(second)))

    def _changes(self, topic: str, block: int) -> Timed:
        changes = list(self._views[topic].changes(block))
        texts = [_told(topic, change.second * _SECOND, self._change(change)) for change in changes]
        return Timed([change.second * _SECOND for change in changes], texts)

    def _change(self, change: BookChange) -> str:
        return (
            f'{{"seqNum":{change.last_id},"prevSeqNum":{change.first_id - 1},'
            f'"bids":{self._levels(change.bids)},"asks":{self._levels(change.asks)}}}'
        )

    def _levels(self, levels: Levels) -> str:
        return f"[{','.join(f'[{self.price(price)},{self.size(size)}]' for price, size in levels)}]"

    def _candles(self, hour: int) -> Timed:
        told = traded_moments(self.market, hour, _SECOND)
        texts = [_told(self.minute, moment.time, self.candle(moment.bar)) for moment in told]
        return Timed([moment.time for moment in told], texts)


def _told(topic: str, time: int, tick: str) -> str:
    return f'{{"ch":"{topic}","ts":{time + _LAG},"tick":{tick}}}'


def bare(units: int, decimals: int) -> str:
    """`units` of 10**-decimals as HTX writes numbers: 710.0, 0.104328, and 9.121E-7 below a thousandth."""
    digits = str(units).rstrip("0") or "0"
    point = len(str(units)) - decimals  # digits before the point
    if units == 0:
        return "0.0"
    if -3 < point <= 7:
        text = digits.ljust(max(point, 0), "0")
        whole, part = (text[:point], text[point:]) if point > 0 else ("0", "0" * -point + text)
        return f"{whole}.{part or 0}"
    return f"{digits[0]}.{digits[1:] or 0}E{point - 1}"
