"""The changes that a book tells of make the same book again."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from recordings import paths

from collector import exchanges
from collector.book_changes import BookChanges
from collector.book_sync import BookSync
from collector.exchanges.events import BookDelta, BookReset
from collector.exchanges.kraken_spot import KrakenBook
from collector.recorded_market import recorded_market
from collector.recording import read
from collector.replay import ReplayReport, play
from collector.session import Session
from market import WrongUse
from tests.market.books import said

DEPTH = 4


def rows(changes):
    return list(
        zip(changes.time, changes.side, changes.price, changes.size, changes.bid, changes.ask, strict=True)
    )


def made_again(told, until=None):
    """Both sides, how deep they are shown, and whether the book is known, of rows before a time."""
    sides, deepest, is_whole = ({}, {}), {}, False
    for time, side, price, size, *_ in told:
        if until is not None and time >= until:
            break
        if side == 0:
            is_whole = bool(size)
        elif abs(side) == 2:
            deepest[side // 2] = price
        elif size:
            sides[side < 0][price] = size
        else:
            sides[side < 0].pop(price, None)
    return sides, deepest, is_whole


levels = st.lists(st.tuples(st.integers(1, 6), st.sampled_from([0, 0, 1, 3])), max_size=5)


def side_of(pairs, base, step):
    return [(f"{base + step * place}.5", f"{size}.0") for place, size in pairs]


@st.composite
def events(draw):
    time = draw(st.one_of(st.none(), st.integers(0, 3)))
    # Now and then the sides cross, and the book is stale.
    step = draw(st.sampled_from([1, 1, 1, -1]))
    bids, asks = side_of(draw(levels), 100, -1), side_of(draw(levels), 100, step)
    return draw(st.sampled_from([BookReset, BookDelta, BookDelta, BookDelta, "stop"])), time, bids, asks


@given(st.lists(events(), max_size=30))
def test_changes_make_the_book_again(given_events):
    sync, now = BookSync("X/Y", "stream_snapshot", KrakenBook()), 1_000
    sync.changes = BookChanges()
    for kind, later, bids, asks in given_events:
        now += later or 0
        time = None if later is None else now
        if kind == "stop":
            sync.stop("disconnected")
        elif kind is BookReset:
            sync.reset(BookReset("X/Y", time, bids, asks, depth=DEPTH), now)
        else:
            sync.delta(BookDelta("X/Y", time, bids, asks))
        told = rows(sync.changes)
        assert told == sorted(told, key=lambda row: row[0])
        sides, deepest, is_whole = made_again(told)
        assert not is_whole or sync.is_live
        if not is_whole or sync.changes._is_due:
            continue
        for place, sign in ((0, 1), (1, -1)):
            known = sync._book.side(is_bid=sign > 0)
            assert sides[place] == dict(known)
            beyond = known[-1][0] if known else sign * float("inf")
            assert deepest[sign] == beyond
        assert told[-1][4:] == (sync._book.best_bid or 0.0, sync._book.best_ask or 0.0)


def test_a_whole_book_without_a_time_is_known_from_the_next_change_on():
    sync = BookSync("X/Y", "stream_snapshot", KrakenBook())
    sync.changes = BookChanges()
    sync.reset(BookReset("X/Y", None, [("99", "1")], [("101", "2")], depth=DEPTH), 0)
    assert len(sync.changes) == 0
    sync.delta(BookDelta("X/Y", 5_000, [("98", "3")], []))
    assert rows(sync.changes) == [
        (5_000, 2, 98.0, 0.0, 99.0, 101.0),
        (5_000, -2, 101.0, 0.0, 99.0, 101.0),
        (5_000, 1, 99.0, 1.0, 99.0, 101.0),
        (5_000, 1, 98.0, 3.0, 99.0, 101.0),
        (5_000, -1, 101.0, 2.0, 99.0, 101.0),
        (5_000, 0, 0.0, 1.0, 99.0, 101.0),
    ]
    sync.stop("disconnected")
    assert rows(sync.changes)[-1][:4] == (5_000, 0, 0.0, 0.0)


def test_a_recorded_market_is_what_a_replay_stores(shared_data):
    files = paths(shared_data, "okx")
    found = recorded_market(files, "okx", "BTC/USDT")
    session, batches = Session(exchanges.find("okx")), []
    play(read(files), session, batches.append, ReplayReport(), lambda _: None)
    stored = [batch.rows["BTC/USDT"] for batch in batches if "BTC/USDT" in batch.rows]
    trades = [trade for each in stored for trade, _ in each.trades]
    assert list(found.trades.price) == [trade.price for trade in trades]
    assert list(found.trades.side) == [1 if trade.side == "buy" else -1 for trade in trades]
    books = [book for each in stored for book in each.books]
    assert len(books) > 5
    told = rows(found.changes)
    for book in books:
        (bids, asks), _, is_whole = made_again(told, book.timestamp)
        assert is_whole
        assert sorted(bids.items(), reverse=True)[:10] == [tuple(x) for x in json.loads(said(book).bids)][:10]
        assert sorted(asks.items())[:10] == [tuple(x) for x in json.loads(said(book).asks)][:10]
    assert found.instrument.tick_size == "0.1"
    assert not found.notes


def test_what_is_not_recorded_is_refused(shared_data):
    with pytest.raises(WrongUse, match="nothing of ETH/EUR on okx"):
        recorded_market(paths(shared_data, "okx"), "okx", "ETH/EUR")
