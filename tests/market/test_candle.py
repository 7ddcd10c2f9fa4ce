from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from market import DAY, BookSnapshot, CandleBuilder, Side, Timeframe, Trade

START = 19_000 * DAY + DAY - 20 * 60_000_000
SECOND = 1_000_000
MINUTE = 60 * SECOND
SIDES = st.sampled_from([Side.BUY, Side.SELL, None])
PRICES = st.integers(1, 10**6).map(lambda ticks: ticks / 100)
SIZES = st.integers(1, 10**9).flatmap(lambda n: st.integers(0, 8).map(lambda places: n / 10**places))
GAPS = st.one_of(
    st.integers(0, 20 * SECOND), st.integers(0, 11 * MINUTE), st.sampled_from([0, MINUTE, 5 * MINUTE])
)
ROWS = st.lists(st.tuples(GAPS, PRICES, SIZES, SIDES, st.integers(1, 3)), min_size=1, max_size=10)
SPANS = st.lists(
    st.tuples(st.integers(1, 8 * MINUTE), ROWS, st.integers(1, 7 * MINUTE)), min_size=1, max_size=3
)


def tape(spans):
    """[(from, to, [(trade, cvd)])]: each span begins at its first trade."""
    moment, seq, found = START, 0, []
    for pause, rows, rest in spans:
        moment += pause
        begin, trades = moment, []
        for gap, price, size, side, fills in rows:
            moment += gap if trades else 0
            seq += 1
            trades.append((Trade("BTC/USDT", moment, str(seq), seq, price, size, side, fills), seq / 7))
        moment += rest
        found.append((begin, moment, trades))
    return found


def snapshot(timestamp, imbalance, spread_bps):
    return BookSnapshot("BTC/USDT", timestamp, spread_bps, imbalance, b"")


def books_of(spans, values):
    """A snapshot now and then inside the spans, at whole seconds."""
    moments = [
        moment
        for begin, end, _ in spans
        for moment in range(begin - begin % SECOND + SECOND, end, 17 * SECOND)
    ]
    return [
        snapshot(m, values[i % len(values)], values[(i * 7) % len(values)] + 1) for i, m in enumerate(moments)
    ]


def exact(value):
    return Fraction(repr(value))


def naive(spans, books):
    """{(timeframe, open): row} of all candles at the end of the last span."""
    trades = [row for _, _, found in spans for row in found]
    last = spans[-1][1]
    rows = {}
    for timeframe in Timeframe:
        length = timeframe.microseconds
        for start in range(timeframe.open_of(START), last, length):
            inside = [row for row in trades if start <= row[0].timestamp < start + length]
            span = next((s for s in spans if s[0] <= start and start + length <= s[1]), None)
            flat = None
            if span is not None and not inside:
                flat = max((row for row in span[2] if row[0].timestamp < start), default=None, key=by_order)
            if inside or flat:
                shown = [book for book in books if start <= book.timestamp < start + length]
                rows[timeframe, start] = naive_row(
                    start, inside, flat, shown, is_closed=start + length <= last, is_whole=span is not None
                )
    return rows


def by_order(row):
    return row[0].order


def naive_row(start, inside, flat, books, *, is_closed, is_whole):
    sizes = {
        side: sum((exact(t.size) for t, _ in inside if t.side == side), Fraction()) for side in (*Side, None)
    }
    volume = sum(sizes.values())
    prices = [t.price for t, _ in inside] or [flat[0].price]
    cvd = inside[-1][1] if inside else flat[1] if flat[0].timestamp // DAY == start // DAY else 0.0
    notional = sum(exact(t.price) * exact(t.size) for t, _ in inside)
    return {
        "open": prices[0],
        "high": max(prices),
        "low": min(prices),
        "close": prices[-1],
        "volume": float(volume),
        "buy_volume": float(sizes[Side.BUY]),
        "sell_volume": float(sizes[Side.SELL]),
        "vwap": pytest.approx(float(notional / volume), rel=1e-15) if inside else None,
        "trade_count": sum(t.fill_count for t, _ in inside),
        "cvd_close": cvd,
        "imbalance_mean": mean([book.imbalance for book in books]),
        "imbalance_last": books[-1].imbalance if books else None,
        "spread_bps_mean": mean([book.spread_bps for book in books]),
        "snapshot_count": len(books),
        "is_closed": is_closed,
        "is_whole": is_whole and is_closed,
        "source": "trades",
    }


def mean(values):
    if not values:
        return None
    return pytest.approx(float(sum(map(exact, values)) / len(values)), rel=1e-15, abs=1e-15)


def row_of(candle):
    skip = ("symbol", "timeframe", "timestamp")
    return {name: getattr(candle, name) for name in candle.__struct_fields__ if name not in skip}


VALUES = st.lists(st.integers(-9999, 9999).map(lambda n: n / 100), min_size=1, max_size=20)


@given(SPANS.map(tape), VALUES, st.data())
def test_candles_equal_the_naive_model(spans, values, data):
    books = books_of(spans, values)
    builder, stored, waiting = CandleBuilder("BTC/USDT"), {}, list(books)

    def add_books(until):
        while waiting and waiting[0].timestamp < until:
            builder.add_snapshot(waiting.pop(0))

    def store():
        for candle in builder.take():
            assert candle.symbol == "BTC/USDT"
            assert not (stored.get((candle.timeframe, candle.timestamp)) or {}).get("is_closed")
            stored[candle.timeframe, candle.timestamp] = row_of(candle)

    for begin, end, trades in spans:
        builder.begin_span(begin)
        fresh = []
        for row in trades:
            add_books(row[0].timestamp)
            if data.draw(st.booleans()):
                builder.close_until(row[0].timestamp)
                assert builder.closed_until <= row[0].timestamp
            if data.draw(st.booleans()):
                builder.add_trades(*zip(*fresh, strict=True)) if fresh else None
                store()
                fresh = []
            fresh.append(row)
        add_books(end)
        builder.close_until(end)
        builder.add_trades(*zip(*fresh, strict=True))
        builder.end_span()
    store()
    assert stored == naive(spans, books)


def trade(timestamp, seq=1, price=10.0):
    return Trade("BTC/USDT", timestamp, str(seq), seq, price, 1.0, Side.BUY)


def test_what_comes_for_a_closed_candle_is_refused():
    builder = CandleBuilder("BTC/USDT")
    builder.begin_span(START)
    builder.add_trades([trade(START)], [1.0])
    builder.close_until(START + MINUTE)
    builder.take()
    with pytest.raises(ValueError, match="closed candle"):
        builder.add_trades([trade(START + MINUTE - 1)], [2.0])
    with pytest.raises(ValueError, match="closed candle"):
        builder.add_snapshot(snapshot(START, 0.0, 1.0))
    builder.add_trades([trade(START + MINUTE, 2)], [2.0])


def test_nothing_new_gives_nothing():
    builder = CandleBuilder("BTC/USDT")
    assert builder.take() == []
    builder.begin_span(START)
    builder.add_trades([trade(START)], [1.0])
    assert [candle.timeframe for candle in builder.take()] == list(Timeframe)
    assert builder.take() == []


def test_a_quiet_minute_is_flat_and_a_minute_in_a_hole_is_missing():
    builder = CandleBuilder("BTC/USDT")
    builder.begin_span(START)
    builder.add_trades([trade(START)], [1.0])
    builder.close_until(START + 2 * MINUTE)
    builder.end_span()
    builder.begin_span(START + 4 * MINUTE)
    builder.add_trades([trade(START + 4 * MINUTE, 2, 20.0)], [2.0])
    minutes = [c for c in builder.take() if c.timeframe is Timeframe.M1]
    assert [(c.timestamp - START, c.close, c.trade_count, c.is_whole) for c in minutes] == [
        (0, 10.0, 1, True),
        (MINUTE, 10.0, 0, True),
        (4 * MINUTE, 20.0, 1, False),
    ]


def test_a_flat_candle_of_a_new_day_has_no_cvd():
    midnight = 19_001 * DAY
    builder = CandleBuilder("BTC/USDT")
    builder.begin_span(midnight - MINUTE)
    builder.add_trades([trade(midnight - MINUTE)], [5.0])
    builder.close_until(midnight + MINUTE)
    minutes = [c for c in builder.take() if c.timeframe is Timeframe.M1]
    assert [(c.timestamp - midnight, c.cvd_close, c.close) for c in minutes] == [
        (-MINUTE, 5.0, 10.0),
        (0, 0.0, 10.0),
    ]
