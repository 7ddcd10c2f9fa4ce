"""Cumulative volume delta: the running sum of signed trade sizes since midnight UTC."""

from bisect import bisect_left
from collections import deque
from collections.abc import Iterable, Sequence
from operator import attrgetter

from msgspec import Struct

from market.decimals import ExactSum
from market.timeframe import DAY, MICROSECONDS
from market.trade import Side, Trade

CVD_STEP = 10 * MICROSECONDS
"""One CVD point each 10 s."""
_BUY, _SELL = Side.BUY, Side.SELL  # Python 3.11 takes its time to look up an enumeration's member
_time_of = attrgetter("timestamp")


class CvdPoint(Struct, frozen=True, gc=False):
    """The CVD of the trades with anchor <= time < timestamp; averages are over the points of the day.

    `cvd_change` is from the day's point before, from 0 at the anchor.
    """

    symbol: str
    timestamp: int
    cvd: float
    cvd_change: float
    cvd_ma_5: float | None
    cvd_ma_20: float | None
    anchor_timestamp: int


class Cvd:
    """The CVD of one instrument over trades that come in tape order.

    The sum is exact (integers at the finest scale seen that day) and rounded once, so every value equals
    the decimal sum of the stored sizes. The anchor is 00:00 UTC, or where that day's coverage begins.
    """

    def __init__(self, symbol: str) -> None:
        self.symbol = symbol
        self._sum = ExactSum()
        self._day = -1
        self._anchors: dict[int, int] = {}
        self._span_from: int | None = None
        self.settled_until = -CVD_STEP
        """The time of the last point that is due: an earlier trade comes too late for it."""
        self._made_until = self.settled_until
        self._made: list[CvdPoint] = []
        self._at_point = 0.0
        # Of the trades since the last point that was made.
        self._times: list[int] = []
        self._values: list[float] = []
        self._points: deque[float] = deque(maxlen=20)
        self._point_anchor = -1

    def restore(
        self,
        *,
        day: int,
        total: ExactSum,
        anchors: dict[int, int],
        span_from: int,
        last_point: int,
        at_point: float,
        pending: Iterable[tuple[int, float]],
        points: Iterable[float],
    ) -> None:
        """Go on from stored rows, inside the span that they belong to.

        Args:
            day: 00:00 UTC of the last trade's day.
            total: the exact sum of that day's trades.
            anchors: the anchor of each day from the last point's to the last trade's.
            span_from: where the current span of coverage begins.
            last_point: time of the last point written (the span's begin, if there is none).
            at_point: the CVD at `last_point`, of the trades before it.
            pending: (timestamp, cvd) of the trades at or after `last_point`, in order.
            points: the CVD of the last points of `last_point`'s day, oldest first, at most 20.
        """
        self._day, self._anchors, self._sum = day, dict(anchors), total
        self._span_from = span_from
        self.settled_until = self._made_until = last_point - last_point % CVD_STEP
        self._at_point = at_point
        rows = list(pending)
        self._times, self._values = [time for time, _ in rows], [value for _, value in rows]
        self._points = deque(points, maxlen=20)
        self._point_anchor = self._anchors.get(_day_before(last_point), -1)

    def begin_span(self, timestamp: int) -> None:
        """Coverage begins (again) at `timestamp`: there are no points inside the hole before it."""
        self._make_points()
        self._span_from = timestamp
        self.settled_until = self._made_until = timestamp - timestamp % CVD_STEP
        if self._values:
            self._at_point = self._values[-1]
            self._times, self._values = [], []
        self._anchor_of(timestamp - timestamp % DAY)

    def end_span(self, timestamp: int) -> None:
        """Coverage ends before `timestamp`; settle the points up to it first."""
        self._anchor_of(_day_before(timestamp))

    def add(self, trades: Sequence[Trade]) -> list[float]:
        """Add trades of the current span, in tape order; the `cvd_at_trade` of each."""
        values: list[float] = []
        while len(values) < len(trades):
            begin = len(values)
            time = trades[begin].timestamp
            self._begin_day(time - time % DAY)
            end = bisect_left(trades, self._day + DAY, begin, key=_time_of)
            values += self._add(trades[begin:end])
        self._times += map(_time_of, trades)
        self._values += values
        return values

    def settle(self, time: int) -> None:
        """The points up to `time`, inclusive, are due: every trade before it is added before `take`."""
        if self._span_from is not None and time >= self.settled_until + CVD_STEP:
            self.settled_until = time - time % CVD_STEP

    def take(self) -> list[CvdPoint]:
        """The points that became due since the last call."""
        self._make_points()
        points, self._made = self._made, []
        return points

    def _begin_day(self, day: int) -> None:
        if day != self._day:
            self._day, self._sum = day, ExactSum()
            self._anchor_of(day)

    def _add(self, trades: Sequence[Trade]) -> list[float]:
        """Add trades of one day."""
        from market.columns import decimals, running  # commands that add nothing start without numpy

        signs = [(trade.side is _BUY) - (trade.side is _SELL) for trade in trades]
        sizes = decimals([trade.size for trade in trades])
        return running(self._sum, sizes._replace(digits=sizes.digits * signs))

    def _anchor_of(self, day: int) -> int:
        """The day's anchor: 00:00, or where the first span that reaches into the day begins."""
        if day not in self._anchors:
            # After a quiet day points of the days before are still due.
            oldest = min(day, self._made_until) - DAY
            self._anchors = {d: a for d, a in self._anchors.items() if d >= oldest}
            self._anchors[day] = day if self._span_from is None else max(day, self._span_from)
        return self._anchors[day]

    def _make_points(self) -> None:
        first = self._made_until + CVD_STEP
        for timestamp in range(first, self.settled_until + 1, CVD_STEP):
            self._made.append(self._point(timestamp))
        self._made_until = self.settled_until

    def _point(self, timestamp: int) -> CvdPoint:
        # The point at 00:00 closes the day before: the trades of [anchor, timestamp) are of one day.
        anchor = self._anchor_of(_day_before(timestamp))
        if self._point_anchor != anchor:
            self._point_anchor = anchor
            self._points.clear()
            self._at_point = 0.0
        if count := bisect_left(self._times, timestamp):
            self._at_point = self._values[count - 1]
            del self._times[:count], self._values[:count]
        before = self._points[-1] if self._points else 0.0
        self._points.append(self._at_point)
        return CvdPoint(
            symbol=self.symbol,
            timestamp=timestamp,
            cvd=self._at_point,
            cvd_change=self._at_point - before,
            cvd_ma_5=self._mean(5),
            cvd_ma_20=self._mean(20),
            anchor_timestamp=anchor,
        )

    def _mean(self, count: int) -> float | None:
        if len(self._points) < count:
            return None
        total = 0.0
        for value in list(self._points)[-count:]:
            total += value
        return total / count


def _day_before(timestamp: int) -> int:
    """00:00 of the day that the last moment before `timestamp` lies in."""
    return timestamp - 1 - (timestamp - 1) % DAY
