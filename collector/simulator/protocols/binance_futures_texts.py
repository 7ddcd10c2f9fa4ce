"""A simulated perpetual in Binance's words: where they differ from spot's."""

from msgspec import structs

from collector.simulator.bars import Bar
from collector.simulator.book import UPDATES_PER_SECOND, BookChange, Levels
from collector.simulator.market import SimulatedMarket
from collector.simulator.protocols.binance_texts import SymbolTexts
from collector.simulator.tape import Fill, fills_of
from collector.simulator.texts import fixed
from collector.simulator.timed import Timed

_LAG = 3
"""Milliseconds from what happens (`T`) to its message (`E`)."""
_IDS_PER_SECOND = 100_000


class ContractTexts(SymbolTexts):
    """One market's messages. Each simulated trade is an aggregate of one or two fills.

    Args:
        market: the perpetual.
        place: among all symbols, who share the ids of book updates.
    """

    def __init__(self, market: SimulatedMarket, place: int) -> None:
        super().__init__(market)
        self._place = place

    def price(self, ticks: int) -> str:
        """A price with the contract's decimals."""
        return self.market.price_text(ticks)

    def size(self, lots: int) -> str:
        """A size with the contract's decimals."""
        return self.market.size_text(lots)

    def quote(self, product: int) -> str:
        """Ticks × lots as an amount of the quote asset."""
        decimals = self.market.price_decimals + self.market.size_decimals
        return fixed(product, decimals, max(decimals, 1))

    def levels(self, levels: Levels) -> str:
        """Book levels as JSON."""
        texts = [f'["{self.price(price)}","{self.size(size)}"]' for price, size in levels]
        return f"[{','.join(texts)}]"

    def told(self, bar: Bar) -> Bar:
        """With the ids and the number of fills."""
        if not bar.count:
            return bar
        first, last = _last_fill(bar.first_id - 1) + 1, _last_fill(bar.last_id)
        return structs.replace(bar, first_id=first, last_id=last, count=last - first + 1)

    def book_id(self, second: int) -> int:
        """The newest update of this symbol's book at `second`: other symbols' updates have ids between."""
        return second * _IDS_PER_SECOND + self._place * UPDATES_PER_SECOND

    def aggregates(self, hour: int) -> Timed:
        """Every trade is one."""
        trades, name = self.market.trades(hour), f'"s":"{self.name}",'
        texts = [
            f'{{"e":"aggTrade","E":{fill.time + _LAG},{self.aggregate(fill, name)},"st":1}}'
            for fill in fills_of(trades)
        ]
        return Timed(trades.time.tolist(), texts)

    def aggregate(self, fill: Fill, name: str = "") -> str:
        """An aggregate, but for the braces around it; `name` stands behind its id."""
        return (
            f'"a":{fill.number},{name}"p":"{self.price(fill.price)}","q":"{self.size(fill.size)}",'
            f'"f":{_last_fill(fill.number - 1) + 1},"l":{_last_fill(fill.number)},"T":{fill.time},'
            f'"m":{"false" if fill.is_buy else "true"}'
        )

    def change(self, change: BookChange) -> str:
        """A change of the book, which says what the one before ended with (`pu`)."""
        last, time = self.book_id(change.second), change.second * 1000
        return (
            f'{{"e":"depthUpdate","E":{time + _LAG},"T":{time},"s":"{self.name}","ps":"{self.name}","st":1,'
            f'"U":{last - UPDATES_PER_SECOND + 1},"u":{last},"pu":{self.book_id(change.second - 1)},'
            f'"b":{self.levels(change.bids)},"a":{self.levels(change.asks)}}}'
        )


def _last_fill(number: int) -> int:
    """The id of the last fill of the aggregate with this number: every third one has two."""
    return number + number // 3
