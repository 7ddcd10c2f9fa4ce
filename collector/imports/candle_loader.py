"""Imported candles of one instrument and timeframe onto the tape, where no trades are."""

from collections.abc import Iterator

from market import Candle, Instrument, Timeframe
from storage.amend import lock_tapes
from storage.coverage import add_coverage, recount, spans
from storage.database import Connection
from storage.rebuild import record_revision
from storage.tape import write_candles

GROUP = 50_000
"""Candles that one transaction takes."""


class CandleLoader:
    """Writes one instrument's candles. A candle that is stored stays; one from trades would be better."""

    def __init__(self, connection: Connection, instrument: Instrument, timeframe: Timeframe) -> None:
        self.written = 0
        self._connection = connection
        self._exchange, self._symbol = instrument.exchange, instrument.symbol
        self._length = timeframe.microseconds
        self._group: list[Candle] = []

    def add(self, candle: Candle) -> None:
        """Take the next candle of the file."""
        self._group.append(candle)
        if len(self._group) >= GROUP:
            self.flush()

    def flush(self) -> None:
        """Write what is held back, in a transaction of its own."""
        if not self._group:
            return
        candles = sorted(self._group, key=lambda candle: candle.timestamp)
        self._group = []
        with self._connection.transaction():
            lock_tapes(self._connection, self._exchange, [self._symbol])
            written = write_candles(self._connection, self._exchange, self._outside_of_trades(candles))
            for begin, end in self._runs(candles):
                is_new = add_coverage(
                    self._connection,
                    self._exchange,
                    self._symbol,
                    "candles",
                    begin,
                    end,
                    None,
                    None,
                    "file",
                    "import",
                    0,
                )
                if is_new or written:
                    recount(self._connection, self._exchange, self._symbol, "candles", begin, end)
            if written:
                end = candles[-1].timestamp + self._length
                record_revision(
                    self._connection, self._exchange, self._symbol, candles[0].timestamp, end, "import"
                )
        self.written += written

    def _outside_of_trades(self, candles: list[Candle]) -> list[Candle]:
        """Those that trades do not cover: inside coverage, a bucket without a candle is a statement too."""
        covered = spans(self._connection, self._exchange, self._symbol, "trades")
        bounds = [(span.from_timestamp, span.to_timestamp) for span in covered]
        kept, at = [], 0
        for candle in candles:
            while at < len(bounds) and bounds[at][1] < candle.timestamp + self._length:
                at += 1
            if at == len(bounds) or candle.timestamp < bounds[at][0]:
                kept.append(candle)
        return kept

    def _runs(self, candles: list[Candle]) -> Iterator[tuple[int, int]]:
        """[from, to) of candles that follow each other without one missing."""
        begin = candles[0].timestamp
        end = begin + self._length
        for candle in candles[1:]:
            if candle.timestamp > end:
                yield begin, end
                begin = candle.timestamp
            end = candle.timestamp + self._length
        yield begin, end
