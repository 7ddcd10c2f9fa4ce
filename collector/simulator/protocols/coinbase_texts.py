"""The simulated market in Coinbase's words: each message's text, as recorded ones have it."""

from typing import ClassVar

import numpy as np

from collector.simulator.book import BookChange, Levels, SimulatedBook
from collector.simulator.channels import Channel
from collector.simulator.market import SimulatedMarket
from collector.simulator.noise import key_of
from collector.simulator.tape import HOUR, Fill, fills, fills_of, next_number
from collector.simulator.texts import iso_time, microsecond_of, uuid_text
from collector.simulator.timed import Periodic, Timed

_BLOCK = 600_000
_SECOND = 1000


class ProductTexts:
    """One market's messages on each channel."""

    CHANNELS: ClassVar[tuple[str, ...]] = ("level2_batch", "matches", "heartbeat")

    def __init__(self, market: SimulatedMarket) -> None:
        self.market = market
        self.book = SimulatedBook(market)
        self.name = f"{market.base}-{market.quote}"
        self._makers, self._takers = key_of(market.key, "makers"), key_of(market.key, "takers")
        symbol = market.symbol
        self.channels = {
            "level2_batch": Channel("book", symbol, Periodic(_BLOCK, self._updates).between, self._snapshot),
            "matches": Channel("trade", symbol, Periodic(HOUR, self._matches).between, self._last_match),
            "heartbeat": Channel("other", symbol, Periodic(HOUR, self._heartbeats).between),
        }
        """By name."""

    def _matches(self, hour: int) -> Timed:
        trades = self.market.trades(hour)
        return Timed(trades.time.tolist(), [self._match("match", fill) for fill in fills_of(trades)])

    def _last_match(self, now: int) -> list[str]:
        number = next_number(self.market, now)
        return [self._match("last_match", fill) for fill in fills(self.market, number - 1, number)]

    def _match(self, kind: str, fill: Fill) -> str:
        maker, taker = (uuid_text(key, fill.number) for key in (self._makers, self._takers))
        return (
            f'{{"type":"{kind}","trade_id":{fill.number},"maker_order_id":"{maker}",'
            f'"taker_order_id":"{taker}","side":"{maker_side(fill)}",'
            f'"size":"{self.market.size_text(fill.size)}","price":"{self.market.price_text(fill.price)}",'
            f'"product_id":"{self.name}","sequence":{self.sequence(fill.number, fill.time)},'
            f'"time":"{iso_time(microsecond_of(fill.time))}"}}'
        )

    def sequence(self, number: int, time: int) -> int:
        """Counts trades and book updates: that of the trade with this number, or after it."""
        return number + time // _SECOND * 64

    def _snapshot(self, now: int) -> list[str]:
        state = self.book.state((now - 1) // _SECOND)
        asks, bids = self.levels(state.asks), self.levels(state.bids)
        return [f'{{"type":"snapshot","product_id":"{self.name}","asks":[{asks}],"bids":[{bids}]}}']

    def levels(self, levels: Levels, *more: str) -> str:
        """Book levels as JSON texts, each begun by `more`."""
        price_text, size_text = self.market.price_text, self.market.size_text
        head = "".join(f'"{text}",' for text in more)
        return ",".join(f'[{head}"{price_text(price)}","{size_text(size)}"]' for price, size in levels)

    def _updates(self, block: int) -> Timed:
        changes = [change for change in self.book.changes(block) if change.bids or change.asks]
        return Timed([change.second * _SECOND for change in changes], list(map(self._update, changes)))

    def _update(self, change: BookChange) -> str:
        sides = (self.levels(change.bids, "buy"), self.levels(change.asks, "sell"))
        return (
            f'{{"type":"l2update","product_id":"{self.name}","changes":[{",".join(filter(None, sides))}],'
            f'"time":"{iso_time(change.second * 1_000_000)}"}}'
        )

    def _heartbeats(self, hour: int) -> Timed:
        trades = self.market.trades(hour)
        times = range(hour * HOUR, (hour + 1) * HOUR, _SECOND)
        newest = trades.first_id + np.searchsorted(trades.time, np.array(times)) - 1
        texts = [
            f'{{"type":"heartbeat","sequence":{self.sequence(number, time)},"last_trade_id":{number},'
            f'"product_id":"{self.name}","time":"{iso_time(microsecond_of(time))}"}}'
            for number, time in zip(newest.tolist(), times, strict=True)
        ]
        return Timed(list(times), texts)


def maker_side(fill: Fill) -> str:
    """Coinbase names the maker's side: who bought, bought from a seller."""
    return "sell" if fill.is_buy else "buy"
