"""The simulated market in Binance's words: each message's text, as recorded ones have it."""

from collections.abc import Iterator

from collector.simulator.bars import MINUTE, Bar, moments
from collector.simulator.book import BookChange, Levels, SimulatedBook
from collector.simulator.channels import Channel
from collector.simulator.market import SimulatedMarket, Trades
from collector.simulator.timed import Periodic, Timed

_HOUR = 60 * MINUTE
_BLOCK = MINUTE * 10
_KLINE_EVERY = 2_000
_DECIMALS = 8
_ONE = 10**_DECIMALS


class SymbolTexts:
    """One market's messages on each channel, without the frame of a combined stream."""

    def __init__(self, market: SimulatedMarket) -> None:
        self.market = market
        self.book = SimulatedBook(market)
        self.name = market.base + market.quote
        self._price_factor = 10 ** (_DECIMALS - market.price_decimals)
        self._size_factor = 10 ** (_DECIMALS - market.size_decimals)
        self._quote_factor = 10 ** (_DECIMALS - market.price_decimals - market.size_decimals)
        depth = Channel("book", market.symbol, Periodic(_BLOCK, self._depth).between)
        channels = {
            "depth": depth,
            "depth@100ms": depth,
            "kline_1m": Channel("candle", market.symbol, Periodic(_HOUR, self._klines).between),
            "trade": Channel("trade", market.symbol, Periodic(_HOUR, self._trades).between),
            "aggTrade": Channel("trade", market.symbol, Periodic(_HOUR, self.aggregates).between),
        }
        self.streams = {f"{self.name.lower()}@{name}": channel for name, channel in channels.items()}
        """By name."""

    def price(self, ticks: int) -> str:
        """A price as Binance writes it."""
        return _fixed(ticks * self._price_factor)

    def size(self, lots: int) -> str:
        """A size as Binance writes it."""
        return _fixed(lots * self._size_factor)

    def quote(self, product: int) -> str:
        """Ticks × lots as an amount of the quote asset."""
        return _fixed(product * self._quote_factor)

    def levels(self, levels: Levels) -> str:
        """Book levels as JSON."""
        prices, sizes = self._price_factor, self._size_factor
        texts = [f'["{_fixed(price * prices)}","{_fixed(size * sizes)}"]' for price, size in levels]
        return f"[{','.join(texts)}]"

    def told(self, bar: Bar) -> Bar:
        """A bar with the ids and the number of trades that Binance tells of it."""
        return bar

    def rows(self, trades: Trades) -> Iterator[tuple[int, int, str, str, str]]:
        """(id, time, price, size, whether the buyer was the maker) of each trade."""
        is_maker = ("true", "false")
        rows = zip(
            *(column.tolist() for column in (trades.time, trades.price, trades.size, trades.is_buy)),
            strict=True,
        )
        for number, (time, price, size, is_buy) in enumerate(rows, trades.first_id):
            yield number, time, self.price(price), self.size(size), is_maker[is_buy]

    def _trades(self, hour: int) -> Timed:
        trades, name = self.market.trades(hour), self.name
        texts = [
            f'{{"e":"trade","E":{time},"s":"{name}","t":{number},"p":"{price}","q":"{size}",'
            f'"T":{time},"m":{is_maker},"M":true}}'
            for number, time, price, size, is_maker in self.rows(trades)
        ]
        return Timed(trades.time.tolist(), texts)

    def aggregates(self, hour: int) -> Timed:
        """Every aggregate is one trade: as if no order here ever met two makers at one price."""
        trades, name = self.market.trades(hour), self.name
        texts = [
            f'{{"e":"aggTrade","E":{time},"s":"{name}","a":{number},"p":"{price}","q":"{size}",'
            f'"f":{number},"l":{number},"T":{time},"m":{is_maker},"M":true}}'
            for number, time, price, size, is_maker in self.rows(trades)
        ]
        return Timed(trades.time.tolist(), texts)

    def _depth(self, block: int) -> Timed:
        changes = list(self.book.changes(block))
        return Timed([change.second * 1000 for change in changes], list(map(self.change, changes)))

    def change(self, change: BookChange) -> str:
        """A change of the book."""
        return (
            f'{{"e":"depthUpdate","E":{change.second * 1000},"s":"{self.name}","U":{change.first_id},'
            f'"u":{change.last_id},"b":{self.levels(change.bids)},"a":{self.levels(change.asks)}}}'
        )

    def _klines(self, hour: int) -> Timed:
        """Each minute's last word at its end, which is the next one's begin; else every two seconds."""
        told = [
            moment
            for moment in moments(self.market, hour, _KLINE_EVERY)
            if moment.bar.count or moment.is_final
        ]
        times = [moment.time for moment in told]
        return Timed(
            times, [self._kline(moment.time, self.told(moment.bar), moment.is_final) for moment in told]
        )

    def _kline(self, moment: int, bar: Bar, is_final: bool) -> str:
        price, size, name = self.price, self.size, self.name
        return (
            f'{{"e":"kline","E":{moment},"s":"{name}","k":{{"t":{bar.open_time},'
            f'"T":{bar.open_time + MINUTE - 1},"s":"{name}","i":"1m","f":{bar.first_id},"L":{bar.last_id},'
            f'"o":"{price(bar.open)}","c":"{price(bar.close)}","h":"{price(bar.high)}",'
            f'"l":"{price(bar.low)}","v":"{size(bar.size)}","n":{bar.count},'
            f'"x":{"true" if is_final else "false"},"q":"{self.quote(bar.quote)}",'
            f'"V":"{size(bar.buy_size)}","Q":"{self.quote(bar.buy_quote)}","B":"0"}}}}'
        )


def _fixed(units: int) -> str:
    """`units` of 10**-8 with all eight decimals."""
    return f"{units // _ONE}.{units % _ONE:08d}"
