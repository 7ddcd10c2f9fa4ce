"""Random tapes, and what the stream's own builders make of them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random

from market import DAY, BookSnapshot, Candle, CandleBuilder, Cvd, CvdPoint, Side, Trade
from market.timeframe import GRACE
from storage import ledger, tape
from storage.database import Connection
from tests.market.books import Said, snapshot_of

EXCHANGE = "simulated"
SYMBOL = "BTC/USDT"
SECOND = 1_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
MIDNIGHT = 20_000 * DAY


@dataclass
class Span:
    """An unbroken piece of a stream: it begins with its first trade and has shown the time `until`."""

    trades: list[Trade]
    until: int

    @property
    def begin(self) -> int:
        return self.trades[0].timestamp


@dataclass
class Recorded:
    """What a stream gave, by key."""

    trades: list[tuple[Trade, float]] = field(default_factory=list)
    candles: dict[tuple[str, int], Candle] = field(default_factory=dict)
    points: dict[int, CvdPoint] = field(default_factory=dict)
    spans: list[Span] = field(default_factory=list)
    books: list[BookSnapshot] = field(default_factory=list)

    def write(self, connection: Connection) -> None:
        """Write everything, as the collector does."""
        self.write_raw(connection)
        tape.write_candles(connection, EXCHANGE, self.candles.values())
        tape.write_cvd(connection, EXCHANGE, self.points.values())

    def write_raw(self, connection: Connection) -> None:
        """Write what everything else follows from."""
        tape.write_trades(connection, EXCHANGE, self.trades, None)
        tape.write_books(connection, EXCHANGE, self.books)
        for span in self.spans:
            cover(connection, span.begin, span.until)


def cover(
    connection: Connection,
    begin: int,
    end: int,
    *,
    proof: ledger.Proof = "ids",
    origin: ledger.Origin = "live",
    row_count: int = 0,
) -> bool:
    return ledger.add_coverage(
        connection, EXCHANGE, SYMBOL, "trades", begin, end, None, None, proof, origin, row_count
    )


class Streaming:
    """Drives the builders as a session does."""

    def __init__(self, candles: CandleBuilder | None = None, cvd: Cvd | None = None) -> None:
        self.candles = candles or CandleBuilder(SYMBOL)
        self.cvd = cvd or Cvd(SYMBOL)
        self.rows = Recorded()

    def run(
        self, spans: Sequence[Span], books: Sequence[BookSnapshot], *, is_continued: bool = False
    ) -> Recorded:
        """Take everything in order of time; a continued stream is inside the first span already."""
        left = list(books)
        for number, span in enumerate(spans):
            for trade in span.trades:
                self._books(left, trade.timestamp)
                if trade is span.trades[0] and not (is_continued and number == 0):
                    self.begin(trade.timestamp)
                self.trade(trade)
            self._books(left, span.until - 1)
            self.settle(span.until - GRACE)
            if number < len(spans) - 1:
                self.end(span.until)
        self.rows.spans, self.rows.books = list(spans), list(books)
        return self.rows

    def begin(self, timestamp: int) -> None:
        self.cvd.begin_span(timestamp)
        self.candles.begin_span(timestamp)

    def end(self, until: int) -> None:
        self.settle(until)
        self.cvd.end_span(until)
        self.candles.end_span()

    def trade(self, trade: Trade) -> None:
        self.candles.close_until(trade.timestamp)
        [cvd] = self.cvd.add([trade])
        self.candles.add_trades([trade], [cvd])
        self.rows.trades.append((trade, cvd))
        self.settle(trade.timestamp + 1 - GRACE)

    def settle(self, time: int) -> None:
        self.cvd.settle(time)
        self.rows.points |= {point.timestamp: point for point in self.cvd.take()}
        self.candles.close_until(time)
        self.rows.candles |= {(c.timeframe, c.timestamp): c for c in self.candles.take()}

    def _books(self, left: list[BookSnapshot], until: int) -> None:
        while left and left[0].timestamp <= until:
            self.candles.add_snapshot(left.pop(0))


def cut(
    random: Random, spans: Sequence[Span], books: Sequence[BookSnapshot]
) -> tuple[list[Span], list[BookSnapshot], list[Span], list[BookSnapshot]]:
    """The tape up to some trade, and what comes after it."""
    number = random.randrange(len(spans))
    span = spans[number]
    count = random.randint(1, len(span.trades))
    moment = span.trades[count - 1].timestamp
    until = span.until if count == len(span.trades) else moment + 1
    before = [*spans[:number], Span(span.trades[:count], until)]
    after = [Span(span.trades[count:], span.until), *spans[number + 1 :]]
    return (
        before,
        [book for book in books if book.timestamp < until],
        after,
        [book for book in books if book.timestamp >= until],
    )


def random_tape(random: Random) -> tuple[list[Span], list[BookSnapshot]]:
    """Some spans of trades with holes between them, somewhere around midnight, and some books."""
    spans, moment = [], MIDNIGHT + random.choice((-1, -3, 5)) * random.randrange(1, 3 * HOUR)
    step = random.choice((1, 1000, 1_000_000))
    pace = random.choice((SECOND, SECOND, 20 * SECOND, 2 * MINUTE))
    is_aggregate = random.random() < 0.3
    for _ in range(random.randint(1, 4)):
        trades = _random_trades(random, moment, step, pace, is_aggregate)
        until = trades[-1].timestamp + 1
        if random.random() < 0.7:
            until += random.choice((SECOND, 3 * SECOND, MINUTE, 20 * MINUTE)) * random.randint(1, 5)
        spans.append(Span(trades, until))
        moment = until + random.choice((1, SECOND, MINUTE, HOUR)) * random.randint(1, 5)
    return spans, _random_books(random, spans)


def _random_trades(random: Random, moment: int, step: int, pace: int, is_aggregate: bool) -> list[Trade]:
    trades: list[Trade] = []
    for _ in range(random.randint(1, 60)):
        seq = trades[-1].trade_seq + 1 if trades and trades[-1].timestamp == moment else 0
        trades.append(random_trade(random, moment, seq, is_aggregate=is_aggregate))
        if random.random() < 0.7:
            moment += random.randrange(2 * pace)
            moment += -moment % step
        elif random.random() < 0.2:
            moment += -moment % random.choice((10 * SECOND, MINUTE, MINUTE, 15 * MINUTE, HOUR, DAY))
    return trades


def random_trade(random: Random, timestamp: int, seq: int, *, is_aggregate: bool = False) -> Trade:
    return Trade(
        SYMBOL,
        timestamp,
        f"{'a' if is_aggregate else ''}{timestamp}{seq:04}",
        seq,
        random_number(random),
        random_number(random),
        random.choice((Side.BUY, Side.SELL, Side.BUY, Side.SELL, None)),
        random.randint(1, 9) if is_aggregate else 1,
    )


def _random_books(random: Random, spans: Sequence[Span]) -> list[BookSnapshot]:
    first, last = spans[0].begin - 2 * MINUTE, spans[-1].until
    count = random.choice((0, 10, 200))
    seconds = sorted({random.randrange(first // SECOND, last // SECOND) for _ in range(count)})
    return [random_book(random, second * SECOND) for second in seconds]


def random_book(random: Random, timestamp: int) -> BookSnapshot:
    values = Said(
        best_bid=1.0,
        best_ask=2.0,
        mid=1.5,
        spread=1.0,
        spread_bps=random.choice((random.random() * 1e-5, random.random() * 100, 10.0)),
        bid_volume=1.0,
        ask_volume=1.0,
        imbalance=random.choice((random.uniform(-100, 100), random.uniform(-1, 1) * 1e-9, 0.0, 50.0)),
        depth=10,
        bids=b"[[1.0,1e-7]]",
        asks=b"[[2.0,1.0]]",
    )
    return snapshot_of(SYMBOL, timestamp, values)


def random_number(random: Random) -> float:
    """A price or size of 1 to 15 significant digits, between 1e-10 and 1e9."""
    digits = random.randint(1, 15)
    return float(f"{random.randrange(10 ** (digits - 1), 10**digits)}e{random.randint(-10, 8) - digits}")
