"""The simulated market in Kraken's words (websocket v2): each message's text, as documented ones have it."""

from functools import partial
from zlib import crc32

from collector.simulator.bars import MINUTE, Bar, bars, traded_moments
from collector.simulator.book import BookChange, BookState, Levels, SimulatedBook
from collector.simulator.book_view import BookView
from collector.simulator.channels import Channel
from collector.simulator.market import SimulatedMarket
from collector.simulator.tape import HOUR, Fill, fills, next_number, tied
from collector.simulator.texts import fixed, iso_time, microsecond_of
from collector.simulator.timed import Periodic, Timed

DEPTHS = (10, 25, 100, 500, 1000)
"""Levels a side that can be subscribed to."""
DECIMALS = 8
"""Of every size."""
RECALLED = 50
"""Trades that a subscription to them may begin with."""
_OWN = {"BTC": "XBT", "DOGE": "XDG"}
_OLD = frozenset({"XBT", "XDG", "ETH", "LTC", "XRP"})
_BLOCK = 600_000
_SECOND = 1000
_CHECKED = 10
_CANDLES = 10


class PairTexts:
    """One market's messages on each channel, and its names over REST."""

    def __init__(self, market: SimulatedMarket) -> None:
        self.market = market
        self.book = SimulatedBook(market)
        self.name = market.symbol
        base, quote = (_OWN.get(asset, asset) for asset in (market.base, market.quote))
        self.wsname, self.altname = f"{base}/{quote}", f"{base}{quote}"
        is_old = base in _OLD and quote in ("USD", "EUR", "GBP")
        self.base, self.quote = (f"X{base}", f"Z{quote}") if is_old else (base, quote)
        self._trades = Periodic(HOUR, self._trade_updates)
        self._candles = Periodic(HOUR, self._candle_updates)
        self._books: dict[int, Channel] = {}

    def trades(self, *, snapshot: bool) -> Channel:
        """Trades, those of one moment in one message, after the last 50 if a snapshot is wanted."""
        if snapshot:
            return Channel("trade", self.name, self._trades.between, self._last_trades)
        return Channel("trade", self.name, self._trades.between)

    def candles(self, *, snapshot: bool) -> Channel:
        """The running minute, each second in which it changes, after some past ones."""
        if snapshot:
            return Channel("candle", self.name, self._candles.between, self._last_candles)
        return Channel("candle", self.name, self._candles.between)

    def books(self, depth: int) -> Channel:
        """The best `depth` levels a side: whole, then what changes."""
        if depth not in self._books:
            view = BookView(self.book, depth, says_what_falls_out=False)
            updates = Periodic(_BLOCK, partial(self._book_updates, view))
            self._books[depth] = Channel("book", self.name, updates.between, partial(self._snapshot, view))
        return self._books[depth]

    def price(self, ticks: int) -> str:
        """A price with the pair's decimals."""
        return self.market.price_text(ticks)

    def size(self, lots: int) -> str:
        """A size with eight decimals."""
        return fixed(lots, self.market.size_decimals, DECIMALS)

    def vwap(self, bar: Bar) -> str:
        """The average price of a candle's trades."""
        ticks = round(bar.quote / bar.size) if bar.size else bar.close
        return self.price(ticks)

    def _trade_updates(self, hour: int) -> Timed:
        groups = list(tied(self.market.trades(hour)))
        return Timed([group[0].time for group in groups], [self._told("update", group) for group in groups])

    def _last_trades(self, now: int) -> list[str]:
        end = next_number(self.market, now)
        return [self._told("snapshot", list(fills(self.market, end - RECALLED, end)))]

    def _told(self, kind: str, group: list[Fill]) -> str:
        rows = ",".join(map(self._trade, group))
        return f'{{"channel":"trade","type":"{kind}","data":[{rows}]}}'

    def _trade(self, fill: Fill) -> str:
        return (
            f'{{"symbol":"{self.name}","side":"{fill.side}","price":{self.price(fill.price)},'
            f'"qty":{self.size(fill.size)},"ord_type":"{order_type(fill)}","trade_id":{fill.number},'
            f'"timestamp":"{iso_time(microsecond_of(fill.time))}"}}'
        )

    def _snapshot(self, view: BookView, now: int) -> list[str]:
        state = view.state((now - 1) // _SECOND)
        return [self._book("snapshot", state.second, state.bids, state.asks, state)]

    def _book_updates(self, view: BookView, block: int) -> Timed:
        changes = [change for change in view.changes(block) if change.bids or change.asks]
        return Timed([change.second * _SECOND for change in changes], list(map(self._update, changes)))

    def _update(self, change: BookChange) -> str:
        return self._book("update", change.second, change.bids, change.asks, self.book.state(change.second))

    def _book(self, kind: str, second: int, bids: Levels, asks: Levels, state: BookState) -> str:
        return (
            f'{{"channel":"book","type":"{kind}","data":[{{"symbol":"{self.name}",'
            f'"bids":{self._levels(bids)},"asks":{self._levels(asks)},"checksum":{self._checksum(state)},'
            f'"timestamp":"{iso_time(second * 1_000_000)}"}}]}}'
        )

    def _levels(self, levels: Levels) -> str:
        texts = [f'{{"price":{self.price(price)},"qty":{self.size(size)}}}' for price, size in levels]
        return f"[{','.join(texts)}]"

    def _checksum(self, state: BookState) -> int:
        """CRC32 over the best ten asks, then bids: the texts as sent, without point and leading zeros."""
        best = state.asks[:_CHECKED] + state.bids[:_CHECKED]
        texts = [text for price, size in best for text in (self.price(price), self.size(size))]
        return crc32("".join(text.replace(".", "").lstrip("0") for text in texts).encode())

    def _candle_updates(self, hour: int) -> Timed:
        told = traded_moments(self.market, hour, _SECOND)
        texts = [self._ohlc("update", moment.time, [moment.bar]) for moment in told]
        return Timed([moment.time for moment in told], texts)

    def _last_candles(self, now: int) -> list[str]:
        first = now - now % MINUTE - (_CANDLES - 1) * MINUTE
        found = [bar for bar in bars(self.market, MINUTE, first, _CANDLES, now) if bar.count]
        return [self._ohlc("snapshot", now, found)]

    def _ohlc(self, kind: str, time: int, found: list[Bar]) -> str:
        rows = ",".join(map(self._candle, found))
        return f'{{"channel":"ohlc","type":"{kind}","timestamp":"{iso_time(time * 1000)}","data":[{rows}]}}'

    def _candle(self, bar: Bar) -> str:
        price = self.price
        return (
            f'{{"symbol":"{self.name}","open":{price(bar.open)},"high":{price(bar.high)},'
            f'"low":{price(bar.low)},"close":{price(bar.close)},"trades":{bar.count},'
            f'"volume":{self.size(bar.size)},"vwap":{self.vwap(bar)},'
            f'"interval_begin":"{iso_time(bar.open_time * 1000)[:-1]}000Z","interval":1,'
            f'"timestamp":"{iso_time((bar.open_time + MINUTE) * 1000)}"}}'
        )


def order_type(fill: Fill) -> str:
    """Whether the taker's order was a market order: every third is."""
    return "limit" if fill.number % 3 else "market"
