"""The simulated market in Bybit's words (v5): each message's text, as documented ones have it."""

from functools import partial

from collector.simulator.bars import MINUTE, Moment, moments
from collector.simulator.book import BookState, Levels, SimulatedBook
from collector.simulator.book_view import BookView
from collector.simulator.channels import Channel
from collector.simulator.market import SimulatedMarket
from collector.simulator.noise import key_of
from collector.simulator.tape import HOUR, Fill, tied
from collector.simulator.texts import fixed, uuid_text
from collector.simulator.timed import Periodic, Timed

DEPTHS = ("50", "200", "1000")
"""Levels a side that can be subscribed to."""
_BLOCK = 600_000
_SECOND = 1000
_CANDLE_EVERY = 2000
_LAG = 2
"""Milliseconds from what happens to the message's own time."""


class SymbolTexts:
    """One market's messages on each topic, and its name."""

    def __init__(self, market: SimulatedMarket) -> None:
        self.market = market
        self.book = SimulatedBook(market)
        self.category = "spot" if market.settle is None else "linear"
        self.name = market.base + ("PERP" if market.settle == "USDC" else market.quote)
        self._executions = key_of(market.key, "executions")
        self.channels = {
            f"publicTrade.{self.name}": Channel("trade", market.symbol, Periodic(HOUR, self._trades).between),
            f"kline.1.{self.name}": Channel("candle", market.symbol, Periodic(HOUR, self._candles).between),
        } | {f"orderbook.{depth}.{self.name}": self._books(depth) for depth in DEPTHS}
        """By topic."""

    def _books(self, depth: str) -> Channel:
        view = BookView(self.book, int(depth), says_what_falls_out=True)
        topic = f"orderbook.{depth}.{self.name}"
        updates = Periodic(_BLOCK, partial(self._deltas, topic, view))
        return Channel("book", self.market.symbol, updates.between, partial(self._snapshot, topic, view))

    def execution_id(self, number: int) -> str:
        """A trade's id: unique, and without an order."""
        return uuid_text(self._executions, number)

    def sequence(self, fill: Fill) -> int:
        """Counts trades and book updates."""
        return fill.number + fill.time // _SECOND * 64

    def turnover(self, product: int) -> str:
        """Ticks × lots as an amount of the quote coin."""
        decimals = self.market.price_decimals + self.market.size_decimals
        return fixed(product, decimals, max(decimals, 1))

    def _trades(self, hour: int) -> Timed:
        groups = list(tied(self.market.trades(hour)))
        texts = []
        for group in groups:
            rows = ",".join(map(self._trade, group))
            texts.append(
                f'{{"topic":"publicTrade.{self.name}","type":"snapshot","ts":{group[0].time + _LAG},'
                f'"data":[{rows}]}}'
            )
        return Timed([group[0].time for group in groups], texts)

    def _trade(self, fill: Fill) -> str:
        tick = "" if self.category == "spot" else f'"L":"{"Plus" if fill.is_buy else "Minus"}Tick",'
        return (
            f'{{"T":{fill.time},"s":"{self.name}","S":"{fill.side.title()}",'
            f'"v":"{self.market.size_text(fill.size)}","p":"{self.market.price_text(fill.price)}",{tick}'
            f'"i":"{self.execution_id(fill.number)}","BT":false,"RPI":false,"seq":{self.sequence(fill)}}}'
        )

    def levels(self, levels: Levels) -> str:
        """Book levels as JSON."""
        price_text, size_text = self.market.price_text, self.market.size_text
        texts = [f'["{price_text(price)}","{size_text(size) if size else "0"}"]' for price, size in levels]
        return f"[{','.join(texts)}]"

    def _snapshot(self, topic: str, view: BookView, now: int) -> list[str]:
        return [self._told(topic, "snapshot", view.state((now - 1) // _SECOND))]

    def _deltas(self, topic: str, view: BookView, block: int) -> Timed:
        states = [
            BookState(change.second, change.last_id, change.bids, change.asks)
            for change in view.changes(block)
        ]
        times = [state.second * _SECOND for state in states]
        return Timed(times, [self._told(topic, "delta", state) for state in states])

    def _told(self, topic: str, kind: str, state: BookState) -> str:
        time = state.second * _SECOND
        return (
            f'{{"topic":"{topic}","type":"{kind}","ts":{time + _LAG},"data":{self.book_text(state)},'
            f'"cts":{time}}}'
        )

    def book_text(self, state: BookState, more: str = "") -> str:
        """A book, or what changes in it. `u` counts the messages, one a second."""
        return (
            f'{{"s":"{self.name}","b":{self.levels(state.bids)},"a":{self.levels(state.asks)},{more}'
            f'"u":{state.second},"seq":{state.update_id}}}'
        )

    def _candles(self, hour: int) -> Timed:
        told = moments(self.market, hour, _CANDLE_EVERY)
        return Timed([moment.time for moment in told], list(map(self._candle, told)))

    def _candle(self, moment: Moment) -> str:
        bar, price = moment.bar, self.market.price_text
        return (
            f'{{"topic":"kline.1.{self.name}","data":[{{"start":{bar.open_time},'
            f'"end":{bar.open_time + MINUTE - 1},"interval":"1","open":"{price(bar.open)}",'
            f'"close":"{price(bar.close)}","high":"{price(bar.high)}","low":"{price(bar.low)}",'
            f'"volume":"{self.market.size_text(bar.size)}","turnover":"{self.turnover(bar.quote)}",'
            f'"confirm":{"true" if moment.is_final else "false"},"timestamp":{moment.time}}}],'
            f'"ts":{moment.time + _LAG},"type":"snapshot"}}'
        )
