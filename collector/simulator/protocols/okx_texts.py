"""The simulated market in OKX's words (v5): each message's text, as recorded and documented ones have it."""

from collections.abc import Iterator
from functools import partial
from itertools import groupby

from collector.simulator.bars import Bar, Moment, moments
from collector.simulator.book import BookChange, Levels, SimulatedBook
from collector.simulator.channels import Channel
from collector.simulator.market import SimulatedMarket, Trades
from collector.simulator.tape import HOUR, Fill, fills, fills_of, next_number
from collector.simulator.texts import fixed
from collector.simulator.timed import Periodic, Timed

CONTRACT_LOTS = 100
"""A swap's contract is so many of the market's smallest sizes."""
CONTRACT_DECIMALS = 2
_BLOCK = 600_000
_SECOND = 1000
_CANDLE_EVERY = 2000


class InstrumentTexts:
    """One market's messages on each channel, and its names."""

    def __init__(self, market: SimulatedMarket) -> None:
        self.market = market
        self.book = SimulatedBook(market)
        self.kind = "SPOT" if market.settle is None else "SWAP"
        self.family = f"{market.base}-{market.quote}"
        self.name = self.family if market.settle is None else f"{self.family}-SWAP"
        symbol, last = market.symbol, self._last_trade
        books = Channel("book", symbol, Periodic(_BLOCK, self._updates).between, self._snapshot)
        trades = Channel("trade", symbol, Periodic(HOUR, self._merged).between, partial(last, "trades"))
        single = Channel("trade", symbol, Periodic(HOUR, self._single).between, partial(last, "trades-all"))
        candles = Channel("candle", symbol, Periodic(HOUR, self._candles).between)
        self.public = {"trades": trades, "books": books}
        """Channels of the endpoint /public, by name."""
        self.business = {"trades-all": single, "candle1m": candles}
        """Channels of the endpoint /business, by name."""

    def size(self, lots: int) -> str:
        """A size: of a swap in contracts."""
        if self.market.settle is None:
            return self.market.size_text(lots)
        return fixed(lots, CONTRACT_DECIMALS, CONTRACT_DECIMALS)

    @property
    def contract_size(self) -> str:
        """What a contract is worth in the base currency."""
        return self.market.size_text(CONTRACT_LOTS)

    def levels(self, levels: Levels) -> str:
        """Book levels as JSON: price, size, a zero, how many orders."""
        price_text, size_text = self.market.price_text, self.size
        texts = [
            f'["{price_text(price)}","{size_text(size)}","0","{1 + size % 9 if size else 0}"]'
            for price, size in levels
        ]
        return f"[{','.join(texts)}]"

    def trade(self, fill: Fill) -> str:
        """A trade, but for the braces around it."""
        return (
            f'"instId":"{self.name}","tradeId":"{fill.number}","px":"{self.market.price_text(fill.price)}",'
            f'"sz":"{self.size(fill.size)}","side":"{fill.side}","ts":"{fill.time}"'
        )

    def row(self, bar: Bar) -> str:
        """A candle, but for the brackets and its last field: whether it is final."""
        market = self.market
        prices = '","'.join(map(market.price_text, (bar.open, bar.high, bar.low, bar.close)))
        decimals = market.price_decimals + market.size_decimals
        quote = fixed(bar.quote, decimals, max(decimals, 1))
        base = market.size_text(bar.size)
        in_currency = quote if market.settle is None else base
        return f'"{bar.open_time}","{prices}","{self.size(bar.size)}","{in_currency}","{quote}"'

    def _push(self, channel: str, data: str, more: str = "") -> str:
        return f'{{"arg":{{"channel":"{channel}","instId":"{self.name}"}},{more}"data":[{data}]}}'

    def _single(self, hour: int) -> Timed:
        trades = self.market.trades(hour)
        texts = [
            self._push("trades-all", f'{{{self.trade(fill)},"source":"0"}}') for fill in fills_of(trades)
        ]
        return Timed(trades.time.tolist(), texts)

    def _merged(self, hour: int) -> Timed:
        rows = list(_merge(self.market.trades(hour)))
        texts = [
            self._push(
                "trades", f'{{{self.trade(fill)},"count":"{count}","source":"0","seqId":{fill.number}}}'
            )
            for fill, count in rows
        ]
        return Timed([fill.time for fill, _ in rows], texts)

    def _last_trade(self, channel: str, now: int) -> list[str]:
        number = next_number(self.market, now)
        count = '"count":"1",' if channel == "trades" else ""
        return [
            self._push(channel, f'{{{self.trade(fill)},{count}"source":"0"}}')
            for fill in fills(self.market, number - 1, number)
        ]

    def _snapshot(self, now: int) -> list[str]:
        state = self.book.state((now - 1) // _SECOND)
        return [self._book("snapshot", state.second, state.bids, state.asks, state.update_id, -1)]

    def _updates(self, block: int) -> Timed:
        changes = list(self.book.changes(block))
        return Timed([change.second * _SECOND for change in changes], list(map(self._update, changes)))

    def _update(self, change: BookChange) -> str:
        last, before = change.last_id, change.first_id - 1
        return self._book("update", change.second, change.bids, change.asks, last, before)

    def _book(self, action: str, second: int, bids: Levels, asks: Levels, last: int, before: int) -> str:
        """The checksum is always 0, since 2026."""
        data = (
            f'{{"asks":{self.levels(asks)},"bids":{self.levels(bids)},"ts":"{second * _SECOND}",'
            f'"checksum":0,"prevSeqId":{before},"seqId":{last}}}'
        )
        return self._push("books", data, f'"action":"{action}",')

    def _candles(self, hour: int) -> Timed:
        told = moments(self.market, hour, _CANDLE_EVERY)
        return Timed([moment.time for moment in told], list(map(self._candle, told)))

    def _candle(self, moment: Moment) -> str:
        return self._push("candle1m", f'[{self.row(moment.bar)},"{int(moment.is_final)}"]')


def _merge(trades: Trades) -> Iterator[tuple[Fill, int]]:
    """Neighbours of one moment, price and side in one: under the last one's number, with their count."""
    for _, group in groupby(fills_of(trades), key=lambda fill: (fill.time, fill.price, fill.is_buy)):
        merged = list(group)
        last = merged[-1]
        size = sum(fill.size for fill in merged)
        yield Fill(last.number, last.time, last.price, size, last.is_buy), len(merged)
