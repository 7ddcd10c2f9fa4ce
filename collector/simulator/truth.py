"""The ground truth: every trade that happened, as JSON lines."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from collector.simulator.market import SimulatedMarket
from collector.simulator.protocol import Protocol
from collector.simulator.tape import next_number, time_of
from collector.simulator.timed import Periodic, Timed
from market import Unavailable, WrongUse

_HOUR = 3_600_000


class Truth:
    """Writes {"symbol", "trade_id", "timestamp_us", "price", "size", "side"} a line, numbers as text.

    Lines stand in the order in which the trades happened and are in the file before anybody is sent them. A
    symbol begins with the past trades that its first subscription may be sent.
    """

    def __init__(self, path: Path, protocol: Protocol) -> None:
        try:
            self._file = path.open("w", encoding="ascii")
        except OSError as error:
            raise WrongUse(f"cannot write the truth to {path}: {error.strerror}") from None
        self._protocol = protocol
        self._lines = {
            symbol: Periodic(_HOUR, _Lines(protocol, market).hour)
            for symbol, market in protocol.markets.items()
        }
        self._begun: set[str] = set()

    def write(self, symbols: Iterable[str], begin: int, end: int) -> None:
        """The trades of `symbols` with begin <= time < end (microseconds)."""
        first, last = -(-begin // 1000), -(-end // 1000)
        lines = [
            line
            for symbol in symbols
            for line in self._lines[symbol].between(self._first(symbol, first), self._last(symbol, last))
        ]
        lines.sort(key=lambda timed: timed[0])
        if lines:
            with self._failing():
                self._file.writelines(text for _, text in lines)
                self._file.flush()

    def _first(self, symbol: str, first: int) -> int:
        if symbol in self._begun:
            return first
        self._begun.add(symbol)
        market = self._protocol.markets[symbol]
        recalled = self._protocol.recalled
        return time_of(market, next_number(market, first) - recalled) if recalled else first

    def _last(self, symbol: str, last: int) -> int:
        closes = self._protocol.markets[symbol].closes
        return last if closes is None else min(last, closes)

    def close(self) -> None:
        """The file is complete."""
        with self._failing():
            self._file.close()

    @contextmanager
    def _failing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise Unavailable(f"cannot write the truth to {self._file.name}: {error.strerror}") from None


class _Lines:
    def __init__(self, protocol: Protocol, market: SimulatedMarket) -> None:
        self._protocol = protocol
        self._market = market

    def hour(self, hour: int) -> Timed:
        market, protocol = self._market, self._protocol
        trades = market.trades(hour)
        times = trades.time.tolist()
        rows = zip(times, trades.price.tolist(), trades.size.tolist(), trades.is_buy.tolist(), strict=True)
        lines = [
            f'{{"symbol":"{market.symbol}","trade_id":"{protocol.trade_id(market, number)}",'
            f'"timestamp_us":"{protocol.timestamp(time)}",'
            f'"price":"{market.price_text(price)}","size":"{market.size_text(size)}",'
            f'"side":"{"buy" if is_buy else "sell"}"}}\n'
            for number, (time, price, size, is_buy) in enumerate(rows, trades.first_id)
        ]
        return Timed(times, lines)
