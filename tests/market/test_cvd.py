from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from market import DAY, Cvd, CvdPoint, ExactSum, Side, Trade
from market.cvd import CVD_STEP
from market.decimals import scaled

START = 19_000 * DAY + DAY - 150_000_000
SECOND = 1_000_000
SIDES = st.sampled_from([Side.BUY, Side.SELL, None])
SIZES = st.integers(1, 10**9).flatmap(lambda n: st.integers(0, 8).map(lambda places: n / 10**places))
GAPS = st.one_of(st.integers(0, 12 * SECOND), st.integers(0, 90 * SECOND), st.sampled_from([0, 10 * SECOND]))
SPANS = st.lists(
    st.tuples(
        st.integers(1, 100 * SECOND),
        st.lists(st.tuples(GAPS, SIZES, SIDES), min_size=1, max_size=15),
        st.integers(1, 60 * SECOND),
    ),
    min_size=1,
    max_size=4,
)


def tape(spans):
    """[(from, to, [trades])]: each span begins at its first trade."""
    moment, seq, found = START, 0, []
    for pause, rows, rest in spans:
        moment += pause
        begin, trades = moment, []
        for gap, size, side in rows:
            moment += gap if trades else 0
            seq += 1
            trades.append(Trade("BTC/USDT", moment, str(seq), seq, 1.0, size, side))
        moment += rest
        found.append((begin, moment, trades))
    return found


def signed(trade):
    return 0 if trade.side is None else Fraction(repr(trade.size)) * (1 if trade.side is Side.BUY else -1)


def naive_at_trade(spans):
    trades = [trade for _, _, trades in spans for trade in trades]
    for index, trade in enumerate(trades):
        day = trade.timestamp // DAY
        yield float(sum(signed(t) for t in trades[: index + 1] if t.timestamp // DAY == day))


def naive_points(spans):
    trades = [trade for _, _, trades in spans for trade in trades]
    points = []
    for begin, end, _ in spans:
        first = begin - begin % CVD_STEP + CVD_STEP
        for moment in range(first, end + 1, CVD_STEP):
            day = (moment - 1) // DAY * DAY
            anchor = next(max(day, b) for b, e, _ in spans if b < day + DAY and e > day)
            cvd = float(sum(signed(t) for t in trades if anchor <= t.timestamp < moment))
            same = [point.cvd for point in points if point.anchor_timestamp == anchor]
            values = [*same, cvd]
            means = [None if len(values) < count else plain_sum(values[-count:]) / count for count in (5, 20)]
            change = cvd - (same[-1] if same else 0.0)
            points.append(CvdPoint("BTC/USDT", moment, cvd, change, *means, anchor))
    return points


def plain_sum(values):
    total = 0.0
    for value in values:
        total += value
    return total


@given(SPANS.map(tape), st.data())
def test_values_and_points_equal_the_naive_model(spans, data):
    cvd = Cvd("BTC/USDT")
    values, points = [], []
    for begin, end, trades in spans:
        cvd.begin_span(begin)
        fresh = []
        for trade in trades:
            if data.draw(st.booleans()):
                cvd.settle(trade.timestamp)
                assert cvd.settled_until <= trade.timestamp
            if data.draw(st.booleans()):
                values += cvd.add(fresh)
                points += cvd.take()
                fresh = []
            fresh.append(trade)
        cvd.settle(end)
        values += cvd.add(fresh)
        cvd.end_span(end)
    points += cvd.take()
    assert values == list(naive_at_trade(spans))
    assert points == naive_points(spans)


@given(SPANS.map(lambda spans: tape(spans[:1])), st.data())
def test_going_on_from_stored_rows_changes_nothing(spans, data):
    ((begin, end, trades),) = spans
    stop = data.draw(st.integers(1, len(trades)))
    last = trades[stop - 1]
    whole, first, second = Cvd("BTC/USDT"), Cvd("BTC/USDT"), Cvd("BTC/USDT")
    for cvd in (whole, first):
        cvd.begin_span(begin)
    values = whole.add(trades)
    points = points_until(whole, end)
    stored = [(trade.timestamp, *first.add([trade])) for trade in trades[:stop]]
    written = points_until(first, last.timestamp)
    day = last.timestamp - last.timestamp % DAY
    total = ExactSum()
    for trade in trades[:stop]:
        if trade.timestamp >= day and trade.side is not None:
            digits, scale = scaled(trade.size)
            total.add(digits if trade.side is Side.BUY else -digits, scale)
    last_point = written[-1].timestamp if written else begin
    point_day = (last_point - 1) // DAY * DAY
    days = range(point_day, day + 1, DAY)
    second.restore(
        day=day,
        total=total,
        anchors={d: max(d, begin) for d in days},
        span_from=begin,
        last_point=last_point,
        at_point=written[-1].cvd if written else 0.0,
        pending=[row for row in stored if row[0] >= last_point],
        points=[p.cvd for p in written if (p.timestamp - 1) // DAY * DAY == point_day][-20:],
    )
    assert second.add(trades[stop:]) == values[stop:]
    assert written + points_until(second, end) == points


def points_until(cvd, time):
    cvd.settle(time)
    return cvd.take()


def test_a_day_begins_anew_and_midnight_closes_the_day_before():
    midnight = 19_001 * DAY
    cvd = Cvd("BTC/USDT")
    cvd.begin_span(midnight - 15 * SECOND)
    trades = [
        Trade("BTC/USDT", midnight - 15 * SECOND, "1", 1, 1.0, 3.0, Side.BUY),
        Trade("BTC/USDT", midnight, "2", 2, 1.0, 0.5, Side.SELL),
    ]
    assert cvd.add(trades) == [3.0, -0.5]
    points = points_until(cvd, midnight + 10 * SECOND)
    assert [(p.timestamp - midnight, p.cvd, p.cvd_change, p.anchor_timestamp - midnight) for p in points] == [
        (-10 * SECOND, 3.0, 3.0, -15 * SECOND),
        (0, 3.0, 0.0, -15 * SECOND),
        (10 * SECOND, -0.5, -0.5, 0),
    ]
