"""A session's rows in the database, under faults: stored is what was delivered, the rest is known."""

import time
from itertools import pairwise
from random import Random

import psycopg
import pytest

from collector import exchanges
from collector.session import Fetch, Session
from collector.simulator.protocols.binance import Binance
from collector.writer import FROZEN_SECONDS, Writer
from market import MICROSECONDS, parse_time
from storage import ledger, rebuild
from storage.amend import lock_tapes
from storage.clock import wall_clock
from storage.database import connect
from storage.holes import list_holes

START = parse_time("2026-03-01T23:50:00Z")
SECONDS = 1200
SYMBOL = "BTC/USDT"


class Feed:
    """A collector's work without its sockets: a session, a writer, and batches cut at random."""

    def __init__(self, url: str, random: Random) -> None:
        self.session = Session(exchanges.find("simulated"), [SYMBOL])
        self.writer = Writer(url, "simulated", origin="live", proof="ids")
        self.exchange = Binance([SYMBOL], seed=9)
        self.writer.claim(SYMBOL)
        self.writer.restore(self.session.stream(SYMBOL))
        self.random = random
        self.now = START

    def connect(self) -> None:
        self.answer(self.session.connected())

    def take(self, message: str) -> None:
        self.answer(self.session.message(message, wall_clock()))
        if self.random.random() < 0.02:
            self.write()

    def answer(self, requests) -> None:
        for request in requests:
            if isinstance(request, Fetch):
                body = self.exchange.answer(request.request.path, self.now).body
                self.session.rest(request.request.path, body, wall_clock())

    def write(self) -> None:
        merging = set(self.writer.merging)
        self.writer.write(self.session.take())
        for symbol in merging:
            self.writer.restore(self.session.stream(symbol))

    def close(self) -> None:
        self.session.disconnected()
        self.write()
        self.write()
        self.writer.close()


def messages_by_second(exchange):
    streams = "/".join(f"btcusdt@{channel}" for channel in ("trade", "depth@100ms", "kline_1m"))
    session = exchange.connect(f"/stream?streams={streams}")
    for second in range(SECONDS):
        begin = START + second * MICROSECONDS
        yield begin + MICROSECONDS, [sent.payload for sent in session.messages(begin, begin + MICROSECONDS)]


def trade_id(message: str) -> int | None:
    return int(message.split('"t":')[1].split(",")[0]) if '"e":"trade"' in message else None


def holes(ids: list[int]) -> list[tuple[str, str, int]]:
    return [(str(a + 1), str(b - 1), b - a - 1) for a, b in pairwise(ids) if b > a + 1]


def run(url: str, seed: int) -> list[int]:
    """Feed with faults; the ids of the trades that were delivered, in order."""
    random = Random(seed)
    feed = Feed(url, random)
    feed.connect()
    delivered: list[int] = []
    is_away = 0
    for now, messages in messages_by_second(feed.exchange):
        feed.now = now
        is_away -= 1
        if random.random() < 0.01:
            feed.session.disconnected()
            is_away = random.choice((1, 3, 90))
            if random.random() < 0.3:
                feed.close()
                feed = Feed(url, random)
                feed.now = now
        if is_away == 0:
            feed.connect()
        if is_away > 0:
            continue
        for message in messages:
            number = trade_id(message)
            if number is not None and random.random() < 0.003:
                continue
            feed.take(message)
            if number is not None:
                delivered.append(number)
                if random.random() < 0.01:
                    feed.take(message)
    feed.close()
    return delivered


@pytest.mark.parametrize("seed", range(6))
def test_under_faults_rows_are_right_and_every_hole_is_known(database, seed):
    delivered = run(database, seed)
    with connect(database) as connection:
        stored = connection.execute("SELECT trade_seq FROM trades ORDER BY timestamp, trade_seq").fetchall()
        assert [number for (number,) in stored] == delivered
        assert (
            rebuild.differences(connection, "simulated", SYMBOL, START, START + 2 * SECONDS * MICROSECONDS)
            == []
        )
        gaps = [
            g for g in list_holes(connection, exchange="simulated", symbol=SYMBOL) if g.stream == "trades"
        ]
        assert sorted((g.from_id, g.to_id, g.missing_count) for g in gaps) == sorted(holes(delivered))
        spans = ledger.spans(connection, "simulated", SYMBOL, "trades")
        assert sum(span.row_count for span in spans) == len(delivered)
        assert len(spans) == len(gaps) + 1
        for span, gap in zip(spans, sorted(gaps, key=lambda g: g.from_timestamp), strict=False):
            assert span.to_timestamp <= gap.to_timestamp


def test_a_batch_whose_answer_was_lost_may_be_written_again(database):
    feed = Feed(database, Random(1))
    feed.connect()
    rest = messages_by_second(feed.exchange)
    for _ in range(100):
        feed.now, messages = next(rest)
        for message in messages:
            feed.session.message(message, wall_clock())
    batch = feed.session.take()
    feed.writer.write(batch)
    feed.writer.write(batch)
    feed.write()
    for _ in range(100):
        feed.now, messages = next(rest)
        for message in messages:
            feed.session.message(message, wall_clock())
    feed.close()
    with connect(database) as connection:
        ids = [row[0] for row in connection.execute("SELECT trade_seq FROM trades ORDER BY 1").fetchall()]
        assert ids == list(range(ids[0], ids[0] + len(ids)))
        assert (
            rebuild.differences(connection, "simulated", SYMBOL, START, START + SECONDS * MICROSECONDS) == []
        )
        assert list_holes(connection, exchange="simulated", symbol=SYMBOL) == []


def test_a_stream_that_stalled_has_no_hole(database):
    feed = Feed(database, Random(1))
    feed.connect()
    held: list[str] = []
    for second, (now, messages) in zip(range(300), messages_by_second(feed.exchange), strict=False):
        feed.now = now
        # Every minute the trades come eight seconds late, while the book goes on.
        is_stalled = second % 60 >= 52
        if not is_stalled:
            for message in held:
                feed.take(message)
            held.clear()
        for message in messages:
            if is_stalled and trade_id(message) is not None:
                held.append(message)
            else:
                feed.take(message)
    for message in held:
        feed.take(message)
    feed.close()
    with connect(database) as connection:
        ids = [row[0] for row in connection.execute("SELECT trade_seq FROM trades ORDER BY 1").fetchall()]
        assert ids == list(range(ids[0], ids[0] + len(ids)))
        assert len(ids) > 100
        assert list_holes(connection, exchange="simulated", symbol=SYMBOL) == []
        (span,) = ledger.spans(connection, "simulated", SYMBOL, "trades")
        assert span.row_count == len(ids)
        end = START + SECONDS * MICROSECONDS
        assert rebuild.differences(connection, "simulated", SYMBOL, START, end) == []


def test_a_writer_that_was_overtaken_writes_no_more(database):
    feed = Feed(database, Random(1))
    feed.connect()
    for _, (now, messages) in zip(range(30), messages_by_second(feed.exchange), strict=False):
        feed.now = now
        for message in messages:
            feed.session.message(message, wall_clock())
    with connect(database) as connection:
        ledger.next_epoch(connection, "simulated", SYMBOL, "trades")
    with pytest.raises(ledger.Superseded):
        feed.writer.write(feed.session.take())
    feed.writer.close()
    with connect(database) as connection:
        assert connection.execute("SELECT count(*) FROM trades").fetchone() == (0,)


def test_a_frozen_process_keeps_no_tape_from_its_successor(database):
    frozen = Writer(database, "simulated", origin="live", proof="ids")
    frozen.claim(SYMBOL)
    with connect(database) as healing, connect(database) as another:
        lock_tapes(healing, "simulated", [SYMBOL])
        lock_tapes(another, "kraken", [SYMBOL])
        with connect(database) as connection:
            connection.execute(
                "UPDATE stream_state SET updated_timestamp = updated_timestamp - '1 min'::interval"
            )
        time.sleep(FROZEN_SECONDS / 2 + 0.1)
        successor = Feed(database, Random(1))
        another.execute("SELECT 1")
        with pytest.raises(psycopg.OperationalError):
            healing.execute("SELECT 1")
    successor.close()
    frozen.close()


def test_what_cannot_be_read_is_kept_aside_and_the_stream_goes_on(database):
    feed = Feed(database, Random(1))
    feed.connect()
    for second, (now, messages) in zip(range(30), messages_by_second(feed.exchange), strict=False):
        feed.now = now
        feed.session.message(b'{"stream":"btcusdt@trade","data":{"e":"trade","s":', now + second)
        for message in messages:
            feed.session.message(message, wall_clock())
    feed.close()
    assert feed.session.counts.rejected == 30
    with connect(database) as connection:
        rejected = connection.execute("SELECT count(*), count(DISTINCT reason) FROM rejected_messages")
        assert rejected.fetchone() == (30, 1)
        assert list_holes(connection, exchange="simulated", symbol=SYMBOL) == []
        assert connection.execute("SELECT count(*) > 10 FROM trades").fetchone() == (True,)


def test_a_time_far_ahead_is_rejected(database):
    feed = Feed(database, Random(1))
    now, messages = next(messages_by_second(feed.exchange))
    trade = next(message for message in messages if trade_id(message) is not None)
    feed.session.message(trade, now - 3 * 86_400 * MICROSECONDS)
    assert feed.session.counts.rejected == 1
    assert feed.session.streams[SYMBOL].time == 0
    feed.close()
