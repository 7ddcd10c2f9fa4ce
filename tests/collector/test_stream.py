"""One instrument's stream, without a database: spans, holes, late trades, books, the exchange's candles."""

import pytest

from collector.book_sync import BookSync
from collector.exchanges import find
from collector.exchanges.events import BookDelta, BookReset, CandleSeen
from collector.stream import InstrumentStream
from market import Side, Timeframe, Trade
from tests.market.books import said

SYMBOL = "BTC/USDT"
SECOND = 1_000_000
MINUTE = 60 * SECOND
START = 1_700_000_100 * SECOND


def stream(*, ids=True):
    adapter = find("simulated")
    book = BookSync(SYMBOL, "rest_snapshot", adapter.book_sequence(SYMBOL))
    return InstrumentStream(SYMBOL, book, has_consecutive_ids=ids)


def trade(number, seconds, price=100.0):
    return Trade(SYMBOL, START + int(seconds * SECOND), str(number), number, price, 0.5, Side.BUY)


def feed(found, *trades):
    for each in trades:
        found.trade(each, 0)


def spans(rows):
    return [((s.from_timestamp - START) / SECOND, (s.to_timestamp - START) / SECOND) for s in rows.spans]


def test_coverage_reaches_from_the_first_trade_to_the_time_shown():
    found = stream()
    feed(found, trade(1, 5), trade(2, 6))
    found.show(START + 40 * SECOND)
    rows = found.take()
    assert spans(rows) == [(5, 40)]
    assert [s.row_count for s in rows.spans] == [2]
    assert rows.gaps == []


def test_missing_ids_are_a_confirmed_hole_right_after_the_last_trade():
    found = stream()
    feed(found, trade(1, 5))
    found.show(START + 40 * SECOND)
    feed(found, trade(4, 50))
    assert found.take().gaps == []
    found.show(START + 51 * SECOND)
    (gap,) = found.take().gaps
    assert (gap.status, gap.from_id, gap.to_id, gap.missing_count) == ("confirmed", "2", "3", 2)
    assert (gap.from_timestamp, gap.to_timestamp) == (START + 5 * SECOND + 1, START + 50 * SECOND)


def test_ids_that_begin_anew_are_a_suspicion_without_a_count():
    found = stream()
    feed(found, trade(900, 5), trade(1, 9), trade(2, 10))
    rows = found.take()
    (gap,) = rows.gaps
    assert (gap.cause, gap.status, gap.missing_count) == ("id_reset", "suspected", None)
    assert [t.trade_id for t, _ in rows.trades] == ["900", "1", "2"]


def test_ids_that_begin_anew_before_what_the_stream_has_shown_close_no_candle_too_many():
    found = stream()
    feed(found, trade(900, 5))
    found.show(START + 61 * SECOND)
    feed(found, trade(1, 59.5))
    found.show(START + 130 * SECOND)
    rows = found.take()
    assert [t.trade_id for t, _ in rows.trades] == ["900", "1"]
    assert [gap.cause for gap in rows.gaps] == ["id_reset"]
    assert [c.trade_count for c in rows.candles if c.timeframe is Timeframe.M1 and c.is_closed][:1] == [2]


def test_a_hole_over_the_end_of_a_minute_closes_it_without_the_seconds_of_a_quiet_book():
    found = stream()
    found.book_reset(BookReset(SYMBOL, None, [("99", "1")], [("101", "1")], sequence=1))
    found.book_delta(BookDelta(SYMBOL, START + 50 * SECOND, [("99", "2")], [], 2, 2))
    feed(found, trade(1, 57.5), trade(9, 60.2))
    found.show(START + 65 * SECOND)
    rows = found.take()
    seconds = [(book.timestamp - START) // SECOND for book in rows.books]
    assert seconds == [51, 52, 53, 54, 55, 56, 57, 58, 60, 61, 62, 63]
    assert [gap.missing_count for gap in rows.gaps] == [7]
    assert [trade.trade_id for trade, _ in rows.trades] == ["1", "9"]


def test_after_a_lost_connection_the_next_id_decides():
    whole, holed, blind = stream(), stream(), stream(ids=False)
    for found, number in ((whole, 2), (holed, 3), (blind, 2)):
        feed(found, trade(1, 5))
        found.disconnected()
        found.show(START + 300 * SECOND)
        feed(found, trade(number, 310))
    assert whole.take().gaps == []
    assert [g.cause for g in holed.take().gaps] == ["ids_missing"]
    assert [(g.cause, g.status) for g in blind.take().gaps] == [("disconnected", "suspected")]


def test_nothing_is_proven_while_the_connection_is_gone():
    found = stream()
    feed(found, trade(1, 5))
    found.disconnected()
    found.take()
    found.show(START + 300 * SECOND)
    rows = found.take()
    assert rows.spans == []
    assert rows.points == []
    assert rows.candles == []


def test_what_comes_twice_is_dropped_where_ids_tell_and_kept_aside_elsewhere():
    found, blind = stream(), stream(ids=False)
    for each in (found, blind):
        feed(each, trade(1, 5), trade(2, 6), trade(2, 6), trade(1, 5))
    rows, kept = found.take(), blind.take()
    assert [t.trade_id for t, _ in rows.trades] == [t.trade_id for t, _ in kept.trades] == ["1", "2"]
    assert rows.late == []
    assert found.duplicates == 2
    assert [t.trade_id for t, _ in kept.late] == ["2", "1"]


def test_an_id_that_jumps_ahead_waits_for_those_before_it():
    found = stream()
    feed(found, trade(1, 5), trade(4, 5.3), trade(3, 5.2), trade(4, 5.3))
    rows = found.take()
    assert [t.trade_id for t, _ in rows.trades] == ["1"]
    assert spans(rows) == [(5, 5.000001)]
    feed(found, trade(2, 5.1), trade(5, 5.4))
    rows = found.take()
    assert [t.trade_id for t, _ in rows.trades] == ["2", "3", "4", "5"]
    assert rows.gaps == []
    assert found.duplicates == 1


def test_what_waits_is_taken_when_the_connection_is_lost():
    found = stream()
    feed(found, trade(1, 5), trade(4, 5.3))
    found.disconnected()
    rows = found.take()
    assert [t.trade_id for t, _ in rows.trades] == ["1", "4"]
    assert [(g.from_id, g.to_id) for g in rows.gaps] == [("2", "3")]


def test_a_candle_closes_when_a_later_trade_comes_or_the_grace_is_over():
    found = stream()
    feed(found, trade(1, 5))
    found.show(START + MINUTE + 1_999_999)
    assert not any(c.is_closed for c in found.take().candles)
    found.show(START + MINUTE + 2 * SECOND)
    assert [c.timeframe for c in found.take().candles if c.is_closed] == [Timeframe.M1]
    feed(found, trade(2, 125))
    assert [c.trade_count for c in found.take().candles if c.is_closed] == [0]


def test_a_candle_that_waits_for_the_book_has_all_its_snapshots():
    found = stream()
    feed(found, trade(1, 1))
    found.book_reset(BookReset(SYMBOL, START + SECOND, [("99", "1")], [("101", "1")], 10))
    found.book_delta(BookDelta(SYMBOL, START + 59 * SECOND, [("99", "2")], [], 11, 11))
    feed(found, trade(2, 60.1))
    assert not any(c.is_closed for c in found.take().candles)
    found.book_delta(BookDelta(SYMBOL, START + 60_200_000, [("99", "3")], [], 12, 12))
    feed(found, trade(3, 60.3))
    (closed,) = [c for c in found.take().candles if c.is_closed]
    assert closed.snapshot_count == 58


@pytest.mark.parametrize(
    ("delta", "cause"),
    [
        (BookDelta(SYMBOL, START + 3 * SECOND, [], [], 15, 15), "sequence"),
        (BookDelta(SYMBOL, START + 3 * SECOND, [("102", "1")], [], 11, 11), "crossed"),
    ],
)
def test_a_broken_book_is_stale_at_once_and_the_break_is_recorded(delta, cause):
    found = stream()
    found.book_reset(BookReset(SYMBOL, START, [("99", "1")], [("101", "1")], 10))
    found.book_delta(delta)
    assert not found.book.is_live
    assert found.book.wants_book
    found.show(START + 20 * SECOND)
    stale = found.take()
    assert all(snapshot.timestamp <= START + 3 * SECOND for snapshot in stale.books)
    found.book_reset(BookReset(SYMBOL, START + 30 * SECOND, [("99", "1")], [("101", "1")], 20))
    (gap,) = found.take().gaps
    assert (gap.stream, gap.cause, gap.to_timestamp) == ("book", cause, START + 30 * SECOND)


def seen(seconds, *, is_closed):
    moment = START + seconds * SECOND
    opened = Timeframe.M1.open_of(moment)
    return CandleSeen(SYMBOL, moment, Timeframe.M1, opened, 1.0, 2.0, 0.5, 1.5, 9.0, 4.0, 7, is_closed)


def test_the_exchanges_candle_is_kept_only_before_the_tape_begins():
    found = stream()
    found.candle(seen(30, is_closed=True))
    feed(found, trade(1, 130))
    found.candle(seen(150, is_closed=True))
    kept = found.take().exchange_candles
    assert [(c.timestamp, c.source) for c in kept] == [(START, "exchange")]


def test_a_candle_without_a_final_mark_is_final_when_a_later_one_comes():
    found = stream()
    found.candle(seen(10, is_closed=False))
    found.candle(seen(30, is_closed=False))
    assert found.take().exchange_candles == []
    found.candle(seen(61, is_closed=False))
    assert [c.timestamp for c in found.take().exchange_candles] == [START]


def test_late_trades_are_no_hole():
    found = stream()
    feed(found, trade(1, 50), trade(2, 57))
    found.show(START + 65 * SECOND)
    feed(found, trade(3, 58), trade(4, 59), trade(5, 66), trade(6, 67))
    rows = found.take()
    assert [t.trade_id for t, _ in rows.late] == ["3", "4"]
    assert rows.gaps == []
    assert spans(rows) == [(50, 67.000001)]


def test_what_is_missing_among_late_trades_is_known():
    found = stream()
    feed(found, trade(1, 50), trade(2, 57))
    found.show(START + 65 * SECOND)
    feed(found, trade(4, 59), trade(5, 66))
    (gap,) = found.take().gaps
    assert (gap.from_id, gap.to_id, gap.missing_count) == ("3", "3", 1)


def test_a_book_is_known_no_further_than_its_own_connection_has_come():
    found = stream()
    found.book_reset(BookReset(SYMBOL, START, [("99", "1")], [("101", "1")], 10))
    feed(found, trade(1, 1))
    found.shows_book = False  # another connection's trades, ahead of the book
    feed(found, trade(2, 9), trade(3, 30))
    assert found.take().books == []
    found.shows_book = True
    found.book_delta(BookDelta(SYMBOL, START + 10 * SECOND, [("99", "7")], [], 11, 11))
    books = found.take().books
    assert [(book.timestamp - START) // SECOND for book in books] == list(range(1, 11))
    assert {said(book).bid_volume for book in books} == {1.0}
    found.disconnected(cause="disconnected")
    assert found.take().books == []


def test_time_goes_on_for_a_silent_book_only_while_its_connection_speaks():
    found = stream()
    found.book_reset(BookReset(SYMBOL, START, [("99", "1")], [("101", "1")], 10))
    feed(found, trade(1, 1))
    found.silent_until(START + 10 * SECOND, shows_book=True)
    assert len(found.take().books) == 6
    found.silent_until(START + 90 * SECOND, shows_book=False)
    rows = found.take()
    assert rows.books == []
    assert spans(rows)[-1][1] == 88
    found.shows_book = True
    feed(found, trade(2, 95))
    assert found.take().books == []
    found.book_delta(BookDelta(SYMBOL, START + 95 * SECOND, [("99", "7")], [], 12, 12))
    assert not found.book.is_live
    assert found.take().books == []


def test_a_book_that_was_silent_goes_on_where_the_next_change_follows():
    found = stream()
    found.book_reset(BookReset(SYMBOL, START, [("99", "1")], [("101", "1")], 10))
    feed(found, trade(1, 1))
    found.silent_until(START + 30 * SECOND, shows_book=False)
    assert found.take().books == []
    found.shows_book = True
    found.book_delta(BookDelta(SYMBOL, START + 20 * SECOND, [("99", "7")], [], 11, 11))
    assert [(book.timestamp - START) // SECOND for book in found.take().books] == list(range(1, 21))
