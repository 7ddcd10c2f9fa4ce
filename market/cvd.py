"""Cumulative volume delta: the running sum of signed trade sizes since midnight UTC."""

from collections import deque
from collections.abc import Iterable

from msgspec import Struct

from market.decimals import ExactSum, scaled
from market.timeframe import DAY, MICROSECONDS
from market.trade import Side, Trade

CVD_STEP = 10 * MICROSECONDS
"""One CVD point each 10 s."""
_BUY = Side.BUY  # Python 3.11 takes its time to look up an enumeration's member


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
        self.value = 0.0
        self._sum = ExactSum()
        self._day = -1
        self._anchors: dict[int, int] = {}
        self._span_from: int | None = None
        self.settled_until = -CVD_STEP
        """The time of the last point: an earlier trade comes too late for it."""
        self._at_point = 0.0
        self._pending: deque[tuple[int, float]] = deque()
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
        self.value = float(total)
        self._span_from = span_from
        self.settled_until = last_point - last_point % CVD_STEP
        self._at_point = at_point
        self._pending = deque(pending)
        self._points = deque(points, maxlen=20)
        self._point_anchor = self._anchors.get(_day_before(last_point), -1)

    def begin_span(self, timestamp: int) -> None:
        """Coverage begins (again) at `timestamp`: there are no points inside the hole before it."""
        self._span_from = timestamp
        self.settled_until = timestamp - timestamp % CVD_STEP
        if self._pending:
            self._at_point = self._pending[-1][1]
            self._pending.clear()
        self._anchor_of(timestamp - timestamp % DAY)

    def end_span(self, timestamp: int) -> None:
        """Coverage ends before `timestamp`; ask for the points up to it first."""
        self._anchor_of(_day_before(timestamp))

    def add(self, trade: Trade) -> float:
        """Add one trade of the current span and return its `cvd_at_trade`."""
        day = trade.timestamp - trade.timestamp % DAY
        if day != self._day:
            self._day = day
            self._sum = ExactSum()
            self.value = 0.0
            self._anchor_of(day)
        if trade.side is not None:
            digits, scale = scaled(trade.size)
            self._sum.add(digits if trade.side is _BUY else -digits, scale)
            self.value = float(self._sum)
        self._pending.append((trade.timestamp, self.value))
        return self.value

    def points_until(self, time: int) -> list[CvdPoint]:
        """The points due up to `time`, inclusive; every trade before it must have been added."""
        points: list[CvdPoint] = []
        if self._span_from is None:
            return points
        while self.settled_until + CVD_STEP <= time:
            self.settled_until += CVD_STEP
            points.append(self._point(self.settled_until))
        return points

    def _anchor_of(self, day: int) -> int:
        """The day's anchor: 00:00, or where the first span that reaches into the day begins."""
        if day not in self._anchors:
            # After a quiet day points of the days before are still due.
            oldest = min(day, self.settled_until) - DAY
            self._anchors = {d: a for d, a in self._anchors.items() if d >= oldest}
            self._anchors[day] = day if self._span_from is None else max(day, self._span_from)
        return self._anchors[day]

    def _point(self, timestamp: int) -> CvdPoint:
        # The point at 00:00 closes the day before: the trades of [anchor, timestamp) are of one day.
        anchor = self._anchor_of(_day_before(timestamp))
        if self._point_anchor != anchor:
            self._point_anchor = anchor
            self._points.clear()
            self._at_point = 0.0
        while self._pending and self._pending[0][0] < timestamp:
            self._at_point = self._pending.popleft()[1]
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
