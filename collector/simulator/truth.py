"""The ground truth: every trade that happened, as JSON lines."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from collector.simulator.market import SimulatedMarket
from collector.simulator.timed import Periodic, Timed
from market import Unavailable, WrongUse

_HOUR = 3_600_000


class Truth:
    """Writes {"symbol", "trade_id", "timestamp_us", "price", "size", "side"} a line, numbers as text.

    Lines stand in the order in which the trades happened and are in the file before anybody is sent them.
    """

    def __init__(self, path: Path, markets: Iterable[SimulatedMarket]) -> None:
        try:
            self._file = path.open("w", encoding="ascii")
        except OSError as error:
            raise WrongUse(f"cannot write the truth to {path}: {error.strerror}") from None
        self._lines = {market.symbol: Periodic(_HOUR, _Lines(market).hour) for market in markets}

    def write(self, symbols: Iterable[str], begin: int, end: int) -> None:
        """The trades of `symbols` with begin <= time < end (microseconds)."""
        first, last = -(-begin // 1000), -(-end // 1000)
        lines = [line for symbol in symbols for line in self._lines[symbol].between(first, last)]
        lines.sort(key=lambda timed: timed[0])
        if lines:
            with self._failing():
                self._file.writelines(text for _, text in lines)
                self._file.flush()

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
    def __init__(self, market: SimulatedMarket) -> None:
        self._market = market

    def hour(self, hour: int) -> Timed:
        market = self._market
        trades = market.trades(hour)
        times = trades.time.tolist()
        rows = zip(times, trades.price.tolist(), trades.size.tolist(), trades.is_buy.tolist(), strict=True)
        lines = [
            f'{{"symbol":"{market.symbol}","trade_id":"{number}","timestamp_us":"{time * 1000}",'
            f'"price":"{market.price_text(price)}","size":"{market.size_text(size)}",'
            f'"side":"{"buy" if is_buy else "sell"}"}}\n'
            for number, (time, price, size, is_buy) in enumerate(rows, trades.first_id)
        ]
        return Timed(times, lines)
