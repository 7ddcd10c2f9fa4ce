"""Real messages, made worse from a seed, through a whole session: nothing escapes and nothing bad is kept.

DELTATAPE_FUZZ_MESSAGES says how many worse messages each adapter gets, 5,000 by default.
"""

import gzip
import os
from collections import defaultdict
from math import isfinite
from random import Random
from typing import NamedTuple

import pytest
from conversation import Conversation
from dialects import DIALECTS, FILES, frames, learned, messages, text_of
from msgspec.json import decode
from mutations import mutated, packed

from collector.exchanges import EXCHANGES, find
from collector.exchanges.adapter import MalformedMessage
from collector.exchanges.events import BookReset, TradeSeen
from collector.exchanges.packed import MAX_UNPACKED, is_packed
from collector.exchanges.texts import LARGEST
from collector.recording import Received
from collector.session import MAX_AGE, MAX_RAW, MAX_REJECTED, Session
from market import WrongUse, parse_time
from market.timeframe import DAY
from tests.market.books import said as values_of

COUNT = int(os.environ.get("DELTATAPE_FUZZ_MESSAGES", "5000"))
START = parse_time("2026-03-01T12:00:10Z")
EACH_KIND = 6
MOST_KINDS = 60
MAX_MESSAGE = 6_000
MOST_CLEAN = 7_000
TAKEN_EVERY = 100


class Said(NamedTuple):
    """A message, and the connection that it came over; or a REST answer, and where it was asked for."""

    text: bytes
    t: int
    path: str
    is_rest: bool = False


class Overheard(Conversation):
    """Keeps what the simulated exchange says."""

    def __init__(self, *arguments):
        self.heard = []
        super().__init__(*arguments)

    def hear(self, line, door, payloads):
        self.heard += [Said(as_bytes(payload), self.now, line.path) for payload in payloads]
        super().hear(line, door, payloads)


def as_bytes(payload):
    return payload if isinstance(payload, bytes) else payload.encode()


def said(exchange, folder):
    """(adapter that knows the list, what the exchange said in order): from a recording, else simulated."""
    if exchange in FILES:
        heard = [
            Said(frame.message, frame.t, DIALECTS[exchange].path)
            if isinstance(frame, Received)
            else Said(frame.body, frame.t, "/" + frame.url.split("/", 3)[-1], is_rest=True)
            for frame in frames(folder, exchange)
        ]
        return learned(folder, exchange), heard
    spoken = Overheard(exchange, DIALECTS[exchange].simulated, START)
    spoken.run(20)
    known = find(exchange)
    known.add_instruments(spoken.adapter.instruments)
    return known, spoken.heard


def corpus(exchange, folder, heard):
    """Messages of every kind, the shortest ones of each, as texts."""
    path = DIALECTS[exchange].path or heard[-1].path
    found = [each for each in heard if not each.is_rest]
    if exchange not in FILES:
        found += [Said(message, 0, path) for message in messages(folder, exchange)]
    kinds = defaultdict(list)
    for each in found:
        text = text_of(each.text)
        if len(text) <= MAX_MESSAGE:
            kinds[text[:24]].append(each._replace(text=text.encode()))
    names = sorted(kinds)[:: -(-len(kinds) // MOST_KINDS)]
    some = [
        each for name in names for each in sorted(kinds[name], key=lambda each: len(each.text))[:EACH_KIND]
    ]
    return some + [Said(message, 0, path) for message, _ in DIALECTS[exchange].control]


def play(session, heard):
    for each in heard:
        if each.is_rest:
            session.rest(each.path, each.text, each.t)
        else:
            session.message(each.text, each.t, each.path)


def books(known, heard):
    """The last whole books of those that were said: what makes a book live again."""
    whole = [
        each for each in heard if each.is_rest or any(isinstance(e, BookReset) for e in parsed(known, each))
    ]
    return whole[-4:]


def parsed(known, each):
    try:
        return known.parse(each.text, each.path)
    except (MalformedMessage, WrongUse):
        return []


@pytest.mark.parametrize("exchange", sorted(EXCHANGES))
def test_nothing_escapes_and_nothing_bad_is_kept(exchange, shared_data):
    random = Random(f"{exchange} 1")
    known, heard = said(exchange, shared_data)
    reader, _ = said(exchange, shared_data)
    every, revival = corpus(exchange, shared_data, heard), books(reader, heard)
    symbols = {e.trade.symbol for each in heard for e in parsed(reader, each) if isinstance(e, TradeSeen)}
    session = Session(known, symbols)
    heard = heard[:MOST_CLEAN]
    a_time, rejected, stored = -(-COUNT // len(heard)), 0, 0
    for number, clean in enumerate(heard):
        for _ in range(a_time):
            # Worse than what comes next, as if it came instead; or than anything that ever came.
            is_next = not clean.is_rest and len(clean.text) <= MAX_MESSAGE and random.random() < 0.5
            chosen = clean if is_next else random.choice(every)
            message = mutated(text_of(chosen.text).encode(), random)
            if is_packed(heard[-1].text) and random.random() < 0.8:
                message = packed(message, random)
            before = session.counts.rejected
            session.message(message, clean.t, chosen.path)
            assert session.counts.rejected <= before + 1, message
        play(session, [clean])
        if number % TAKEN_EVERY == TAKEN_EVERY - 1 or number == len(heard) - 1:
            batch = session.take()
            assert len(batch.rejected) == min(session.counts.rejected - rejected, MAX_REJECTED)
            assert all(each.reason and len(each.raw) <= MAX_RAW for each in batch.rejected)
            rejected = session.counts.rejected
            stored += check(batch, clean.t)
            play(session, revival)
    assert session.counts.messages >= COUNT
    assert rejected > COUNT / 10
    assert stored


def check(batch, now):
    """Every row can be stored and can be true; how many there are."""
    for rows in batch.rows.values():
        trades = [trade for trade, _ in rows.trades] + [trade for trade, _ in rows.late]
        for trade in trades:
            assert 0 < trade.price < LARGEST
            assert 0 < trade.size < LARGEST
            assert now - 2 * MAX_AGE <= trade.timestamp <= now + DAY
            assert 0 <= trade.trade_seq < 2**63
            assert trade.fill_count >= 1
            assert trade.side in ("buy", "sell")
            assert 0 < len(trade.trade_id) < 100
        for candle in rows.candles + rows.exchange_candles:
            assert 0 < candle.low <= min(candle.open, candle.close)
            assert max(candle.open, candle.close) <= candle.high < LARGEST
            assert candle.volume >= 0
            assert candle.timestamp % candle.timeframe.microseconds == 0
            assert now - 2 * MAX_AGE <= candle.timestamp <= now + DAY
        for book in map(values_of, rows.books):
            assert 0 < book.best_bid < book.best_ask < LARGEST
            assert -100 <= book.imbalance <= 100
            assert all(
                price > 0 and size > 0 for side in map(decode, (book.bids, book.asks)) for price, size in side
            )
        for span in rows.spans:
            assert now - 2 * MAX_AGE <= span.from_timestamp <= span.to_timestamp <= now + 2 * DAY
        for gap in rows.gaps:
            assert gap.from_timestamp <= gap.to_timestamp
        assert all(isfinite(cvd) for _, cvd in rows.trades)
        for row in (*rows.candles, *rows.exchange_candles, *rows.points, *rows.books):
            numbers = [getattr(row, name) for name in row.__struct_fields__]
            assert all(isfinite(number) for number in numbers if isinstance(number, float))
    return sum(len(rows.trades) for rows in batch.rows.values())


def test_what_unpacks_to_too_much_is_refused_before_it_is_whole():
    session = Session(find("htx"))
    session.message(gzip.compress(b" " * (MAX_UNPACKED + 1), mtime=0), 0)
    assert session.take().rejected[0].reason == f"unpacks to more than {MAX_UNPACKED} bytes"


def test_the_same_seed_gives_the_same_messages():
    one, other = Random("a"), Random("a")
    text = b'{"a":[1,2,{"b":"text"}],"c":null}'
    assert [mutated(text, one) for _ in range(200)] == [mutated(text, other) for _ in range(200)]
    assert len({mutated(text, one) for _ in range(200)}) > 100
