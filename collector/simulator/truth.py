"""The ground truth: every trade that happened, as JSON lines."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from collector.simulator.channels import Texts
from collector.simulator.market import SimulatedMarket
from collector.simulator.protocol import Protocol
from collector.simulator.tape import HOUR, Fill, fills, fills_of, next_number
from collector.simulator.timed import Periodic, Timed
from market import Unavailable, WrongUse


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
        self._lines = {symbol: _Lines(protocol, market) for symbol, market in protocol.markets.items()}
        self._begun: set[str] = set()

    def write(self, symbols: Iterable[str], begin: int, end: int) -> None:
        """The trades of `symbols` with begin <= time < end (microseconds)."""
        first, last = -(-begin // 1000), -(-end // 1000)
        lines = [
            line for symbol in symbols for line in self._lines_of(symbol, first, self._last(symbol, last))
        ]
        lines.sort(key=lambda timed: timed[0])
        if lines:
            with self._failing():
                self._file.writelines(text for _, text in lines)
                self._file.flush()

    def _lines_of(self, symbol: str, first: int, last: int) -> Texts:
        """The trades of that time; the first time, what may be recalled of the time before it, too."""
        lines = self._lines[symbol]
        if symbol in self._begun:
            return lines.between(first, last)
        self._begun.add(symbol)
        end = next_number(self._protocol.markets[symbol], first)
        return lines.numbered(end - self._protocol.recalled, end) + lines.between(first, last)

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
    """One market's trades as lines of the file."""

    def __init__(self, protocol: Protocol, market: SimulatedMarket) -> None:
        self._protocol = protocol
        self._market = market
        self.between = Periodic(HOUR, self._hour).between

    def numbered(self, first: int, end: int) -> Texts:
        """Those with first <= number < end."""
        return [(fill.time, self._line(fill)) for fill in fills(self._market, first, end)]

    def _hour(self, hour: int) -> Timed:
        trades = self._market.trades(hour)
        return Timed(trades.time.tolist(), list(map(self._line, fills_of(trades))))

    def _line(self, fill: Fill) -> str:
        market, protocol = self._market, self._protocol
        return (
            f'{{"symbol":"{market.symbol}","trade_id":"{protocol.trade_id(market, fill.number)}",'
            f'"timestamp_us":"{protocol.timestamp(fill.time)}",'
            f'"price":"{market.price_text(fill.price)}","size":"{market.size_text(fill.size)}",'
            f'"side":"{fill.side}"}}\n'
        )
