"""What a collector measures of itself while it runs. Pure: whoever drives it passes the time.

Times are microseconds UTC, delays in `Readings` seconds.
"""

from collections import deque
from collections.abc import Sequence

from msgspec import Struct

from collector.session import Counts
from market import MICROSECONDS

WINDOW_SECONDS = 60
"""How far back the delays' quantiles reach."""
RATE_SECONDS = 10
"""How far back messages and trades a second reach."""
LATE_COMMIT_SECONDS = 15.0
"""A live collector writes its heartbeat each second: without any commit for so long, the database is away."""
MAX_SAMPLES = 512
"""Trades that a batch's lags are measured by."""

_SLICES = 6
_LONGEST = (1 << 40) - 1
_BUCKETS = 16 + 8 * 36


class LagWindow:
    """Delays of the last `seconds`, as a histogram whose buckets are at most an eighth wide.

    A delay below 16 µs has a bucket of its own; above, each doubling has eight. So a quantile is right to
    within 6.7%, in some 15 kB however many delays came.
    """

    __slots__ = ("_began", "_counts", "_past", "_slice")

    def __init__(self, seconds: int = WINDOW_SECONDS) -> None:
        self._slice = seconds * MICROSECONDS // _SLICES
        self._past: deque[tuple[int, list[int]]] = deque(maxlen=_SLICES - 1)
        self._counts = [0] * _BUCKETS
        self._began: int | None = None

    def add(self, us: int, count: int = 1) -> None:
        """Count a delay of so many microseconds; one below 0, where two clocks differ, counts as 0."""
        if us < 16:
            self._counts[us if us > 0 else 0] += count
            return
        bits = us.bit_length()
        if bits > 40:
            us, bits = _LONGEST, 40
        self._counts[(bits << 3) + (us >> (bits - 4)) - 32] += count

    def turn(self, now: int) -> None:
        """Forget what is older than the window."""
        if self._began is None or now < self._began:
            self._past.clear()  # of a clock that was put back, nobody knows how old they are
            self._began = now
        elif now - self._began >= self._slice:
            self._past.append((self._began, self._counts))
            self._counts = [0] * _BUCKETS
            self._began = now
        while self._past and now - self._past[0][0] > _SLICES * self._slice:
            self._past.popleft()

    def quantiles(self, *shares: float) -> list[float | None]:
        """For each share (0…1), the seconds that so many delays did not exceed; None without any delay."""
        counts = [sum(column) for column in zip(self._counts, *(past for _, past in self._past), strict=True)]
        total = sum(counts)
        return [_quantile(counts, share * total) if total else None for share in shares]


def _quantile(counts: Sequence[int], wanted: float) -> float:
    seen = 0
    for index, count in enumerate(counts):
        seen += count
        if count and seen >= wanted:
            return _middle(index) / MICROSECONDS
    raise AssertionError("more was wanted than was counted")


def _middle(index: int) -> float:
    """The delay in the middle of a bucket, in microseconds."""
    if index < 16:
        return float(index)
    octave, eighth = divmod(index - 16, 8)
    return (8.5 + eighth) * float(2 << octave)


class Readings(Struct, frozen=True, kw_only=True):
    """A collector at one moment.

    Attributes:
        exchange: whose.
        timestamp: when, in microseconds UTC.
        messages: messages that came since the start; likewise trades, book_updates, gaps, rejected,
            unhandled, checksums.
        messages_per_second: over the last RATE_SECONDS; likewise trades_per_second.
        exchange_lag_p50: seconds from the exchange's time of a trade to its receipt, over the last
            WINDOW_SECONDS; None where no trade came. It holds the difference of the two clocks too.
        commit_lag_p50: seconds from a trade's receipt to its commit.
        commit_age: seconds since anything was committed, None before the first time.
        queue_depth: messages taken but neither written nor spooled.
        spool_bytes: what waits on disk for the database, in spool_batches batches.
        reconnects: connections that were opened again.
        inexact: numbers with more digits than a double holds, stored as the nearest.
        healed: holes that were closed over REST.
        streams_live: streams that are live, quiet ones among them.
        stale: one line for each stream that is not, saying which and why.
    """

    exchange: str
    timestamp: int
    messages: int
    trades: int
    book_updates: int
    messages_per_second: float
    trades_per_second: float
    exchange_lag_p50: float | None
    exchange_lag_p99: float | None
    commit_lag_p50: float | None
    commit_lag_p99: float | None
    commit_age: float | None
    queue_depth: int
    spool_bytes: int
    spool_batches: int
    reconnects: int
    gaps: int
    rejected: int
    unhandled: int
    inexact: int
    checksums: int
    healed: int
    streams_live: int
    stale: tuple[str, ...]

    def values(self) -> dict[str, float]:
        """Every number by its name; what is not known yet is left out."""
        found = {name: getattr(self, name) for name in METRICS if name != "streams_stale"}
        found |= {"streams_stale": len(self.stale)}
        return {name: float(value) for name, value in found.items() if value is not None}

    def problems(self) -> list[str]:
        """What is wrong, a line each; nothing while every stream is live and rows are stored."""
        found = [f"{self.exchange}: {line}" for line in self.stale]
        if self.spool_batches:
            found.append(f"{self.exchange}: {self.spool_batches} batches wait on disk for the database")
        if self.commit_age is None:
            found.append(f"{self.exchange}: nothing was written yet")
        elif self.commit_age > LATE_COMMIT_SECONDS:
            found.append(f"{self.exchange}: nothing was written for {self.commit_age:.0f} s")
        return found


METRICS = (
    *(name for name in Readings.__struct_fields__ if name not in ("exchange", "timestamp", "stale")),
    "streams_stale",
)
"""The names that `Readings.values` gives."""


class Meter:
    """Measures one collector: told of each trade and each commit, read whenever somebody asks."""

    def __init__(self, exchange: str) -> None:
        self.exchange = exchange
        self._exchange_lag = LagWindow()
        self._commit_lag = LagWindow()
        self._committed: int | None = None
        self._samples: deque[tuple[int, int, int]] = deque()

    def received(self, lags: Sequence[int]) -> None:
        """Count the microseconds from the time of trades to their receipt; of many, some are measured."""
        step = len(lags) // MAX_SAMPLES + 1
        for lag in lags[::step]:
            self._exchange_lag.add(lag, step)

    def committed(self, received_times: Sequence[int], now: int) -> None:
        """Rows were committed at `now`, a heartbeat alone too.

        Args:
            received_times: when each of its trades was received; of many, some are measured.
            now: when the commit had returned.
        """
        self._committed = now
        self._commit_lag.turn(now)
        step = len(received_times) // MAX_SAMPLES + 1
        for received in received_times[::step]:
            self._commit_lag.add(now - received, step)

    def reading(
        self,
        now: int,
        counts: Counts,
        *,
        queue_depth: int = 0,
        spool_bytes: int = 0,
        spool_batches: int = 0,
        reconnects: int = 0,
        inexact: int = 0,
        healed: int = 0,
        streams_live: int = 0,
        stale: Sequence[str] = (),
    ) -> Readings:
        """What is to be told at `now`: what was measured, with what the caller knows."""
        self._exchange_lag.turn(now)
        self._commit_lag.turn(now)
        exchange_p50, exchange_p99 = self._exchange_lag.quantiles(0.5, 0.99)
        commit_p50, commit_p99 = self._commit_lag.quantiles(0.5, 0.99)
        messages_per_second, trades_per_second = self._rates(now, counts)
        return Readings(
            exchange=self.exchange,
            timestamp=now,
            messages=counts.messages,
            trades=counts.trades,
            book_updates=counts.book_updates,
            messages_per_second=messages_per_second,
            trades_per_second=trades_per_second,
            exchange_lag_p50=exchange_p50,
            exchange_lag_p99=exchange_p99,
            commit_lag_p50=commit_p50,
            commit_lag_p99=commit_p99,
            commit_age=None if self._committed is None else max(now - self._committed, 0) / MICROSECONDS,
            queue_depth=queue_depth,
            spool_bytes=spool_bytes,
            spool_batches=spool_batches,
            reconnects=reconnects,
            gaps=counts.gaps,
            rejected=counts.rejected,
            unhandled=counts.unhandled,
            inexact=inexact,
            checksums=counts.checksums,
            healed=healed,
            streams_live=streams_live,
            stale=tuple(stale),
        )

    def _rates(self, now: int, counts: Counts) -> tuple[float, float]:
        """Messages and trades a second since the oldest sample of the last RATE_SECONDS."""
        samples = self._samples
        if samples and now < samples[-1][0]:
            samples.clear()  # the clock was put back
        if not samples or now - samples[-1][0] >= MICROSECONDS:
            samples.append((now, counts.messages, counts.trades))
        while len(samples) > 2 and now - samples[1][0] >= RATE_SECONDS * MICROSECONDS:
            samples.popleft()
        began, messages, trades = samples[0]
        seconds = (now - began) / MICROSECONDS
        if seconds < 0.5:
            return 0.0, 0.0
        return (counts.messages - messages) / seconds, (counts.trades - trades) / seconds
