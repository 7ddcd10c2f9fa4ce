"""What a session makes of every exchange whatever happens; fed by recordings and by the simulator."""

from collections import defaultdict

import pytest
from conversation import Conversation
from dialects import DIALECTS, RECORDED, frames, learned
from msgspec.json import decode

from collector.exchanges import EXCHANGES, find
from collector.exchanges.adapter import MalformedMessage, TradeRange
from collector.exchanges.events import BookDelta, BookReset, Heard, TradeSeen
from collector.recording import Received
from collector.session import Session
from collector.simulator.protocols import PROTOCOLS
from market import MICROSECONDS, WrongUse, parse_time
from tests.market.books import said

START = parse_time("2026-03-01T12:00:10Z")
SECONDS = 40
SIMULATED = pytest.mark.parametrize("exchange", sorted(set(PROTOCOLS) & set(EXCHANGES)))
# A trade of kraken_v1 has no id but its place: what comes twice is another one.
WITH_IDS = pytest.mark.parametrize("exchange", [name for name in RECORDED if name != "kraken_v1"])
# In that of Binance no symbol has trades in three messages; the simulator's have.
BUSY = [name for name in RECORDED if name not in ("binance", "kraken_v1", "simulated")]
JUNK = (b'{"what":"nobody knows"}', b'{"half":', b"[]", b"\xff\xfe", b"[" * 3000)


def played(folder, exchange, tamper=lambda _, message: [message]):
    """The session after a recording, of which `tamper` changes the messages, and all its rows."""
    session = Session(learned(folder, exchange))
    for number, frame in enumerate(frames(folder, exchange)):
        if isinstance(frame, Received):
            for message in tamper(number, frame.message):
                session.message(message, frame.t)
        else:
            session.rest(path_of(frame.url), frame.body, frame.t)
    session.disconnected()
    return session, session.take()


def path_of(url):
    return "/" + url.split("/", 3)[3]


def trades_of(batch):
    return {symbol: rows.trades for symbol, rows in batch.rows.items() if rows.trades}


class Tampered(Conversation):
    """A conversation in which some of what the exchange says is changed on the way.

    `tamper` gets what an adapter of its own understands of a payload, and the payload; what comes instead.
    """

    def __init__(self, exchange, tamper):
        self.tamper = tamper
        self.reader = find(exchange)
        super().__init__(exchange, DIALECTS[exchange].simulated, START)

    def hear(self, line, door, payloads):
        self.reader.add_instruments(self.adapter.instruments)
        super().hear(line, door, [new for old in payloads for new in self.tamper(self.read(old, line), old)])

    def read(self, payload, line):
        try:
            return self.reader.parse(payload, line.path)
        except (MalformedMessage, WrongUse):
            return []


def untouched(_, payload):
    return [payload]


def talk(exchange, tamper=untouched, seconds=SECONDS):
    spoken = Tampered(exchange, tamper)
    spoken.run(seconds)
    return spoken


class Dropped:
    """Drops one message after another of those that `concerns` names, once; keeps what it said."""

    def __init__(self, concerns, *, after, count=1):
        self.concerns, self.after, self.count = concerns, after, count
        self.events = []

    def __call__(self, events, payload):
        if not any(map(self.concerns, events)):
            return [payload]
        self.after -= 1
        if self.after >= 0 or self.count <= 0:
            return [payload]
        self.count -= 1
        self.events += events
        return []


# Duplicates


@WITH_IDS
def test_what_is_recorded_and_comes_twice_changes_no_row(exchange, shared_data):
    _, once = played(shared_data, exchange)
    session, twice = played(shared_data, exchange, lambda _, message: [message, message])
    assert trades_of(twice) == trades_of(once)
    assert all(rows.gaps == [] for rows in twice.rows.values())
    for symbol, rows in once.rows.items():
        assert twice.rows[symbol].books == rows.books
        assert twice.rows[symbol].candles == rows.candles
    assert session.counts.rejected == 0


@SIMULATED
def test_what_comes_twice_changes_no_row(exchange):
    once, twice = talk(exchange), talk(exchange, lambda _, payload: [payload, payload])
    for symbol in once.symbols:
        for name in ("trades", "books", "candles", "points"):
            assert twice.rows(symbol, name) == once.rows(symbol, name)
        assert len(once.rows(symbol, "books")) > SECONDS - 5
        assert twice.rows(symbol, "gaps") == []
        assert twice.session.stream(symbol).book.is_live


# Holes


@pytest.mark.parametrize("exchange", BUSY)
def test_a_trade_that_is_lost_from_a_recording_is_the_hole_that_is_found(exchange, shared_data):
    reader, by_symbol = learned(shared_data, exchange), defaultdict(list)
    for number, frame in enumerate(frames(shared_data, exchange)):
        if isinstance(frame, Received):
            for event in reader.parse(frame.message):
                if isinstance(event, TradeSeen):
                    by_symbol[event.trade.symbol].append((number, event.trade))
    # Neither the first of a symbol nor its last: those nobody could miss.
    between = (rows for rows in by_symbol.values() if rows[0][0] < rows[len(rows) // 2][0] < rows[-1][0])
    rows = next(between)
    dropped = rows[len(rows) // 2][0]
    lost = [trade for number, trade in rows if number == dropped]
    _, batch = played(shared_data, exchange, lambda number, message: [message] * (number != dropped))
    gaps = [gap for rows in batch.rows.values() for gap in rows.gaps]
    assert [(gap.symbol, gap.from_id, gap.to_id, gap.status) for gap in gaps] == [
        (lost[0].symbol, str(lost[0].trade_seq), str(lost[-1].trade_seq), "confirmed")
    ]
    assert gaps[0].missing_count == len(lost)
    stored = {trade for rows in batch.rows.values() for trade, _ in rows.trades}
    assert stored.isdisjoint(lost)


@SIMULATED
def test_a_lost_trade_is_the_hole_that_is_found_and_rest_has_it(exchange):
    symbol = DIALECTS[exchange].simulated[0]

    def is_of_symbol(event):
        return isinstance(event, TradeSeen) and event.trade.symbol == symbol

    drop = Dropped(is_of_symbol, after=8, count=3)
    spoken = talk(exchange, drop)
    lost = [event.trade for event in drop.events if is_of_symbol(event)]
    gaps = spoken.rows(symbol, "gaps")
    assert lost
    if not spoken.adapter.has_consecutive_ids:
        assert gaps == []
        return
    missing = [number for gap in gaps for number in range(int(gap.from_id), int(gap.to_id) + 1)]
    assert missing == [trade.trade_seq for trade in lost]
    assert all(gap.status == "confirmed" and gap.proof == "ids" for gap in gaps)
    assert all(rows == [] for rows in (spoken.rows(other, "gaps") for other in spoken.symbols[1:]))
    for gap in gaps:
        wanted = TradeRange(
            symbol=symbol,
            begin=gap.from_timestamp,
            end=gap.to_timestamp + 1,
            first_id=int(gap.from_id),
            last_id=int(gap.to_id),
        )
        pages = spoken.past_trades(wanted)
        healed = {trade.trade_seq: trade for page in pages for trade in page.trades}
        for trade in lost:
            if wanted.first_id <= trade.trade_seq <= wanted.last_id:
                # The row that would have come over the websocket, to the last bit.
                assert healed[trade.trade_seq] == trade
        assert min(page.first_id for page in pages) <= wanted.first_id
        assert max(page.last_id for page in pages) >= wanted.last_id


# The book


def best(snapshot):
    return [decode(levels)[:5] for levels in said(snapshot)[-2:]]


@SIMULATED
def test_a_lost_change_of_the_book_makes_it_stale_and_it_comes_back(exchange):
    symbol = DIALECTS[exchange].simulated[0]
    whole = talk(exchange)
    drop = Dropped(lambda event: isinstance(event, BookDelta) and event.symbol == symbol, after=20)
    spoken = talk(exchange, drop)
    gaps = [gap for gap in spoken.rows(symbol, "gaps") if gap.stream == "book"]
    if not DIALECTS[exchange].has_checked_book:
        assert all(gap.cause == "crossed" for gap in gaps)
        return
    assert drop.events
    (gap,) = gaps
    assert gap.status == "unhealable"
    assert START < gap.from_timestamp <= gap.to_timestamp < spoken.now
    assert spoken.session.stream(symbol).book.is_live
    # What is given out is right: seconds of the break are left out, not painted over.
    expected = {snapshot.timestamp: snapshot for snapshot in whole.rows(symbol, "books")}
    snapshots = spoken.rows(symbol, "books")
    assert len(snapshots) > SECONDS - 12
    for snapshot in snapshots:
        other = expected[snapshot.timestamp]
        assert best(snapshot) == best(other)
    other_symbol = spoken.symbols[1]
    assert spoken.rows(other_symbol, "books") == whole.rows(other_symbol, "books")


@SIMULATED
def test_a_book_from_before_the_first_change_is_asked_for_again(exchange):
    if find(exchange).book_rule != "rest_snapshot":
        spoken = talk(exchange)
        assert all(spoken.session.stream(symbol).book.is_live for symbol in spoken.symbols)
        return

    class Outdated:
        """REST that at first says what was half a minute before the first change."""

        def __init__(self, protocol):
            self.protocol = protocol
            self.answers = 0

        def __getattr__(self, name):
            return getattr(self.protocol, name)

        def answer(self, path, now):
            self.answers += 1
            return self.protocol.answer(path, START - 30 * MICROSECONDS if self.answers < 8 else now)

    class Late(Tampered):
        def learn(self):
            super().learn()
            self.protocol = Outdated(self.protocol)

    whole = talk(exchange)
    spoken = Late(exchange, untouched)
    spoken.run(SECONDS)
    for symbol in spoken.symbols:
        assert spoken.session.stream(symbol).book.is_live
        expected = {snapshot.timestamp: snapshot for snapshot in whole.rows(symbol, "books")}
        snapshots = spoken.rows(symbol, "books")
        assert len(snapshots) > SECONDS - 5
        assert all(expected[snapshot.timestamp] == snapshot for snapshot in snapshots)
    assert spoken.protocol.answers >= 8


@SIMULATED
def test_a_crossed_book_gives_no_snapshot(exchange):
    spoken = talk(exchange, seconds=10)
    symbol = spoken.symbols[0]
    stream = spoken.session.stream(symbol)
    assert stream.book.is_live
    last = spoken.rows(symbol, "books")[-1]
    price = str(said(last).best_ask * 2)
    crossing = BookReset(symbol, stream.book.time + MICROSECONDS // 2, [(price, "1")], [("1e-9", "1")])
    stream.book_reset(crossing)
    stream.show(stream.book.time + 10 * MICROSECONDS)
    later = [snapshot for snapshot in stream.take().books if snapshot.timestamp > crossing.timestamp]
    assert later == []


# What is no data


@pytest.mark.parametrize("exchange", RECORDED)
def test_what_nobody_understands_between_recorded_messages_is_counted_and_changes_nothing(
    exchange, shared_data
):
    _, clean = played(shared_data, exchange)
    session, batch = played(
        shared_data, exchange, lambda number, message: [JUNK[number % len(JUNK)], message]
    )
    count = sum(isinstance(frame, Received) for frame in frames(shared_data, exchange))
    assert session.counts.rejected + session.counts.unhandled == count
    assert session.counts.rejected >= count // 2
    assert len(batch.rejected) == min(session.counts.rejected, 1000)
    assert sum(session.shapes.values()) == session.counts.unhandled
    assert batch.rows.keys() == clean.rows.keys()
    for symbol, rows in clean.rows.items():
        assert_same_but_for_doubt(exchange, batch.rows[symbol], rows)


UNPROVEN_BOOKS = ("coinbase", "htx")
"""Whose next message does not show that the one before was of the book: it is known again with the next."""


def assert_same_but_for_doubt(exchange, rows, clean):
    """The same rows; no book that a message nobody understood may have changed."""
    assert rows.trades == clean.trades
    assert rows.points == clean.points
    assert [gap for gap in rows.gaps if gap.stream == "trades"] == [
        gap for gap in clean.gaps if gap.stream == "trades"
    ]
    assert set(rows.books) <= set(clean.books)
    assert [(bar.timeframe, bar.timestamp, bar.close, bar.volume) for bar in rows.candles] == [
        (bar.timeframe, bar.timestamp, bar.close, bar.volume) for bar in clean.candles
    ]
    if exchange not in UNPROVEN_BOOKS:
        assert (rows.books, rows.candles, rows.gaps) == (clean.books, clean.candles, clean.gaps)


@SIMULATED
def test_what_nobody_understands_is_counted_and_changes_nothing(exchange):
    clean = talk(exchange)
    put_in = 0

    def tamper(_, payload):
        nonlocal put_in
        put_in += 1
        return [JUNK[put_in % len(JUNK)], payload]

    spoken = talk(exchange, tamper)
    assert spoken.session.counts.rejected + spoken.session.counts.unhandled == put_in
    for symbol in clean.symbols:
        assert_same_but_for_doubt(exchange, spoken.written(symbol), clean.written(symbol))


@SIMULATED
def test_what_keeps_the_connection_alive_is_answered_and_understood(exchange):
    spoken = talk(exchange, seconds=5)
    if keep_alive := spoken.adapter.keep_alive():
        for _, door in spoken.lines:
            (answer,) = door.receive(keep_alive[1])
            (event,) = spoken.adapter.parse(answer)
            assert isinstance(event, Heard)
    assert spoken.session.counts.rejected == spoken.session.counts.unhandled == 0


@pytest.mark.parametrize("exchange", RECORDED)
def test_symbols_that_are_not_wanted_leave_no_row(exchange, shared_data):
    known = learned(shared_data, exchange)
    session = Session(known, [known.instruments[0].symbol])
    for frame in frames(shared_data, exchange):
        if isinstance(frame, Received):
            session.message(frame.message, frame.t)
    assert set(session.take().rows) <= {known.instruments[0].symbol}
