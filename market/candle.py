"""Candles of every timeframe, built from trades and book snapshots as they come."""

from collections.abc import Iterable, Sequence
from typing import Literal

from msgspec import Struct

from market.book import BookSnapshot
from market.decimals import ExactSum, divide
from market.timeframe import DAY, Timeframe
from market.trade import Trade

Source = Literal["trades", "exchange", "import"]
_MINUTE = Timeframe.M1.microseconds
_HIGHER = tuple(t for t in Timeframe if t is not Timeframe.M1)


class Candle(Struct, frozen=True, gc=False, kw_only=True):
    """The trades of [timestamp, timestamp + timeframe): one row of `candles`.

    Prices are in quote units, volumes in base units, times in microseconds UTC. What a source does not
    give is None; `vwap` is None without trades. `is_whole` says that all of it lies inside coverage.
    """

    symbol: str
    timeframe: Timeframe
    timestamp: int
    open: float
    high: float
    low: float
    close: float
    volume: float
    buy_volume: float | None = None
    sell_volume: float | None = None
    vwap: float | None = None
    trade_count: int | None = None
    cvd_close: float | None = None
    imbalance_mean: float | None = None
    imbalance_last: float | None = None
    spread_bps_mean: float | None = None
    snapshot_count: int | None = None
    is_closed: bool = False
    is_whole: bool = False
    source: Source = "trades"


class Bucket:
    """The exact running state of one candle. Prices and `cvd_close` are None until the first trade."""

    __slots__ = (
        "_snapshots",
        "buy",
        "close",
        "cvd_close",
        "high",
        "imbalance",
        "imbalance_last",
        "low",
        "notional",
        "open",
        "sell",
        "snapshot_count",
        "spread_bps",
        "timestamp",
        "trade_count",
        "volume",
    )

    def __init__(self, timestamp: int) -> None:
        self.timestamp = timestamp
        self.open = self.high = self.low = self.close = self.cvd_close = 0.0
        self.trade_count = 0
        self.volume, self.buy, self.sell, self.notional = (ExactSum() for _ in range(4))
        self.imbalance, self.spread_bps = ExactSum(), ExactSum()
        self.imbalance_last: float | None = None
        self.snapshot_count = 0
        self._snapshots: list[BookSnapshot] = []

    def add_trades(self, trades: Sequence[Trade], sums: Iterable[ExactSum], cvd: float) -> None:
        """Add the next trades in tape order, what `sums_of_trades` made of them, and the CVD after them."""
        prices = [trade.price for trade in trades]
        if not self.trade_count:
            self.open = self.high = self.low = prices[0]
        self.high = max(self.high, max(prices))
        self.low = min(self.low, min(prices))
        self.close = prices[-1]
        self.trade_count += sum([trade.fill_count for trade in trades])
        self.cvd_close = cvd
        for mine, theirs in zip((self.volume, self.buy, self.sell, self.notional), sums, strict=True):
            mine.merge(theirs)

    def add_snapshot(self, snapshot: BookSnapshot) -> None:
        """Add the next book snapshot inside the candle."""
        self._snapshots.append(snapshot)

    def _sum_up(self) -> None:
        """Add what snapshots brought: together it takes a third of the time."""
        if snapshots := self._snapshots:
            self.imbalance.add_values([snapshot.imbalance for snapshot in snapshots])
            self.spread_bps.add_values([snapshot.spread_bps for snapshot in snapshots])
            self.imbalance_last = snapshots[-1].imbalance
            self.snapshot_count += len(snapshots)
            snapshots.clear()

    def merge(self, later: "Bucket") -> None:
        """Take in a bucket that lies inside this one, after everything it holds."""
        if later.trade_count:
            if not self.trade_count:
                self.open, self.high, self.low = later.open, later.high, later.low
            self.high = max(self.high, later.high)
            self.low = min(self.low, later.low)
            self.close, self.cvd_close = later.close, later.cvd_close
            self.trade_count += later.trade_count
            for mine, theirs in (
                (self.volume, later.volume),
                (self.buy, later.buy),
                (self.sell, later.sell),
                (self.notional, later.notional),
            ):
                mine.merge(theirs)
        later._sum_up()
        if later.snapshot_count:
            self.imbalance.merge(later.imbalance)
            self.spread_bps.merge(later.spread_bps)
            self.imbalance_last = later.imbalance_last
            self.snapshot_count += later.snapshot_count

    def copy(self) -> "Bucket":
        """An independent bucket of the same state."""
        twin = Bucket(self.timestamp)
        twin.merge(self)
        return twin

    def candle(self, symbol: str, timeframe: Timeframe, *, is_closed: bool, is_whole: bool) -> Candle:
        """The row of this state; of a bucket that has trades, or whose flat price was set."""
        self._sum_up()
        count = ExactSum(self.snapshot_count)
        has_books = self.snapshot_count > 0
        return Candle(
            symbol=symbol,
            timeframe=timeframe,
            timestamp=self.timestamp,
            open=self.open,
            high=self.high,
            low=self.low,
            close=self.close,
            volume=float(self.volume),
            buy_volume=float(self.buy),
            sell_volume=float(self.sell),
            vwap=divide(self.notional, self.volume) if self.trade_count else None,
            trade_count=self.trade_count,
            cvd_close=self.cvd_close,
            imbalance_mean=divide(self.imbalance, count) if has_books else None,
            imbalance_last=self.imbalance_last,
            spread_bps_mean=divide(self.spread_bps, count) if has_books else None,
            snapshot_count=self.snapshot_count,
            is_closed=is_closed,
            is_whole=is_whole,
        )

    def flatten(self, price: float, cvd: float) -> None:
        """Make a bucket without trades flat at the span's last price and the day's last CVD."""
        self.open = self.high = self.low = self.close = price
        self.cvd_close = cvd


class CandleBuilder:
    """Builds one instrument's candles of all timeframes from trades in tape order.

    Trades and snapshots go into minutes; a minute that closes is merged into the higher timeframes, so a
    trade costs one update. Sums are exact, so a candle equals the one that SQL rebuilds from the rows.
    A minute without trades inside coverage is flat at the last price of its span; in a hole there is none.
    """

    def __init__(self, symbol: str) -> None:
        self.symbol = symbol
        self._minutes: dict[int, Bucket] = {}
        self._higher: dict[Timeframe, Bucket] = {}
        self._closed: list[Candle] = []
        self._is_changed = False
        self._span_from: int | None = None
        self.closed_until = 0
        """Every minute before this time is closed; 0 before the first."""
        self._built_until = 0
        self._flat_price: float | None = None
        self._last_cvd: tuple[int, float] = (-1, 0.0)

    def restore(
        self,
        *,
        span_from: int,
        closed_until: int,
        flat_price: float | None,
        last_cvd: tuple[int, float],
        higher: dict[Timeframe, Bucket],
        minutes: Iterable[Bucket],
    ) -> None:
        """Go on from stored rows, inside the span that they belong to.

        Args:
            span_from: where the current span of coverage begins.
            closed_until: open of the first minute that is still open.
            flat_price: price of the span's last trade before `closed_until`, None without one.
            last_cvd: (00:00 of its day, cvd_at_trade) of the last trade before `closed_until`.
            higher: each higher timeframe's bucket that holds `closed_until`, over the closed minutes.
            minutes: the buckets of the open minutes.
        """
        self._span_from, self.closed_until, self._built_until = span_from, closed_until, closed_until
        self._flat_price, self._last_cvd = flat_price, last_cvd
        self._higher = dict(higher)
        self._minutes = {bucket.timestamp: bucket for bucket in minutes}

    def begin_span(self, timestamp: int) -> None:
        """Coverage begins (again) at `timestamp`; what ends before it is closed as it stands."""
        self._build()
        self._span_from = None
        self.close_until(timestamp)
        self._build()
        self._span_from, self._flat_price = timestamp, None

    def end_span(self) -> None:
        """Coverage ends: what is open stays open, and nothing is flat until the next span."""
        self._build()
        self._span_from = self._flat_price = None

    def add_trades(self, trades: Sequence[Trade], cvds: Sequence[float]) -> None:
        """Add the next trades in tape order, each with the CVD after it.

        Raises:
            ValueError: a minute of theirs was closed and taken; such trades need a rebuild from the rows.
        """
        from market.columns import sums_of_trades  # commands that build nothing start without numpy

        if trades[0].timestamp < self._built_until:
            raise ValueError(f"trade {trades[0].trade_id} belongs into a closed candle")
        self._is_changed = True
        minutes = [trade.timestamp // _MINUTE for trade in trades]
        begins = [at for at, minute in enumerate(minutes) if not at or minute != minutes[at - 1]]
        ends = [*begins[1:], len(trades)]
        for begin, end, sums in zip(begins, ends, sums_of_trades(trades, begins), strict=True):
            self._minute(trades[begin].timestamp).add_trades(trades[begin:end], sums, cvds[end - 1])

    def add_snapshot(self, snapshot: BookSnapshot) -> None:
        """Add the next book snapshot.

        Raises:
            ValueError: its minute has been closed.
        """
        if snapshot.timestamp < self.closed_until:
            raise ValueError(f"book snapshot at {snapshot.timestamp} belongs into a closed candle")
        self._is_changed = True
        self._minute(snapshot.timestamp).add_snapshot(snapshot)

    def close_until(self, time: int) -> None:
        """Close every bucket that ends at or before `time`: all that belongs in it has come.

        Its trades are added before the candles are taken, or the span changes.
        """
        end = time - time % _MINUTE
        start = self.closed_until or self._first_open()
        if start is not None and start < end:
            self.closed_until = end

    def _build(self) -> None:
        """Make the candles that were closed."""
        start, end = self._built_until or self._first_open(), self.closed_until
        if start is None or start >= end:
            return
        while start < end and (self._minutes or self._span_from is not None):
            self._close_minute(start)
            start += _MINUTE
        self._close_higher(end)
        self._built_until = end

    def take(self) -> list[Candle]:
        """The candles that changed since the last call: the closed ones, then the open ones."""
        self._build()
        candles, self._closed = self._closed, []
        if self._is_changed:
            self._is_changed = False
            candles += [
                bucket.candle(self.symbol, timeframe, is_closed=False, is_whole=False)
                for timeframe in Timeframe
                for bucket in self._open_buckets(timeframe)
                if bucket.trade_count
            ]
        return candles

    def _minute(self, timestamp: int) -> Bucket:
        open_time = timestamp - timestamp % _MINUTE
        bucket = self._minutes.get(open_time)
        if bucket is None:
            bucket = self._minutes[open_time] = Bucket(open_time)
        return bucket

    def _first_open(self) -> int | None:
        starts = list(self._minutes)
        if self._span_from is not None:
            starts.append(self._span_from - self._span_from % _MINUTE)
        return min(starts, default=None)

    def _close_minute(self, open_time: int) -> None:
        self._is_changed = True
        bucket = self._minutes.pop(open_time, None) or Bucket(open_time)
        self._close(Timeframe.M1, bucket)
        for timeframe in _HIGHER:
            higher = self._higher.get(timeframe)
            if higher is None:
                higher = self._higher[timeframe] = Bucket(timeframe.open_of(open_time))
            higher.merge(bucket)
        if bucket.trade_count:
            self._flat_price = bucket.close
            self._last_cvd = (open_time - open_time % DAY, bucket.cvd_close)
        self._close_higher(open_time + _MINUTE)

    def _close_higher(self, end: int) -> None:
        for timeframe in _HIGHER:
            bucket = self._higher.get(timeframe)
            if bucket is not None and bucket.timestamp + timeframe.microseconds <= end:
                self._close(timeframe, bucket)
                del self._higher[timeframe]

    def _close(self, timeframe: Timeframe, bucket: Bucket) -> None:
        is_whole = self._span_from is not None and self._span_from <= bucket.timestamp
        if not bucket.trade_count:
            if not is_whole or self._flat_price is None:
                return
            day, cvd = self._last_cvd
            is_same_day = day == bucket.timestamp - bucket.timestamp % DAY
            bucket.flatten(self._flat_price, cvd if is_same_day else 0.0)
        self._closed.append(bucket.candle(self.symbol, timeframe, is_closed=True, is_whole=is_whole))

    def _open_buckets(self, timeframe: Timeframe) -> Iterable[Bucket]:
        if timeframe is Timeframe.M1:
            return self._minutes.values()
        buckets: dict[int, Bucket] = {}
        if timeframe in self._higher:
            bucket = self._higher[timeframe].copy()
            buckets[bucket.timestamp] = bucket
        for open_time in sorted(self._minutes):
            higher_open = timeframe.open_of(open_time)
            if higher_open not in buckets:
                buckets[higher_open] = Bucket(higher_open)
            buckets[higher_open].merge(self._minutes[open_time])
        return buckets.values()
