"""Streams that no exchange should send, but some do: what is stored stays true, and in bounds."""

import json

import pytest

from collector import exchanges
from collector.heal import open_gaps
from collector.session import Session
from collector.stream import LEAP
from collector.writer import Writer
from market import DAY, FAR_AHEAD, MICROSECONDS, Side, Trade, parse_time
from storage import healing, ledger, rebuild, verify
from storage.database import connect
from storage.healing import Part

START = parse_time("2026-03-01T23:59:00Z")
SYMBOL = "BTC/USDT"
KEY = ("simulated", SYMBOL)
SECOND = MICROSECONDS
MINUTE = 60 * SECOND


def said(number, seconds):
    milliseconds = (START + int(seconds * SECOND)) // 1000
    trade = {"e": "trade", "E": milliseconds, "s": "BTCUSDT", "t": number, "p": "100.5", "q": "0.25"}
    return json.dumps(
        {"stream": "btcusdt@trade", "data": {**trade, "T": milliseconds, "m": False, "M": True}}
    )


class Live:
    """A collector's session and writer, without sockets."""

    def __init__(self, url):
        self.session = Session(exchanges.find("simulated"), [SYMBOL])
        self.stream = self.session.stream(SYMBOL)
        self.writer = Writer(url, "simulated", origin="live", proof="ids")
        self.writer.claim(SYMBOL)
        self.writer.restore(self.stream)

    def take(self, *messages):
        for message in messages:
            self.session.message(message, START + DAY)

    def write(self):
        self.writer.write(self.session.take())
        for symbol in set(self.writer.merging):
            self.writer.write(self.session.take())
            self.writer.restore(self.session.stream(symbol))

    def close(self):
        self.session.disconnected()
        self.write()
        self.write()
        self.writer.close()


def assert_right(url, *, holes=0):
    """`verify` has nothing to say but of holes."""
    with connect(url) as connection:
        with verify.snapshot(connection, *KEY) as tape:
            proofs = [tape.prove(day) for day in tape.days]
        assert [(p.orphans.count, p.ids_missing, p.candles.count, p.cvd.count) for p in proofs] == [
            (0, 0, 0, 0)
        ] * len(proofs)
        assert len(open_gaps(connection, "simulated")) == holes
        assert rebuild.differences(connection, *KEY, START - 400 * DAY, START + 400 * DAY) == []


def stored(url):
    with connect(url) as connection:
        return [
            n for (n,) in connection.execute("SELECT trade_seq FROM trades ORDER BY timestamp, trade_seq")
        ]


def spans(url):
    with connect(url) as connection:
        found = ledger.spans(connection, *KEY, "trades")
    return [((s.from_timestamp - START) / SECOND, (s.to_timestamp - START) / SECOND) for s in found]


def test_an_id_that_cannot_be_is_kept_aside_and_makes_no_hole(database):
    live = Live(database)
    live.take(said(1, 1), said(2, 2), said(9 * 10**18, 2.5), said(3, 3), said(4, 70))
    live.close()
    assert stored(database) == [1, 2, 3, 4]
    assert live.session.counts.rejected == 1
    assert_right(database)
    with connect(database) as connection:
        (reason,) = connection.execute("SELECT reason FROM rejected_messages").fetchone()
        assert "far ahead" in reason


def test_the_trade_behind_a_spoiled_id_is_a_hole_of_one(database):
    live = Live(database)
    live.take(said(1, 1), said(2 + 2**40, 2), said(3, 3), said(4, 70))
    live.close()
    assert stored(database) == [1, 3, 4]
    with connect(database) as connection:
        (gap,) = open_gaps(connection, "simulated")
    assert (gap.from_id, gap.to_id, gap.missing_count) == ("2", "2", 1)


def test_many_ids_may_go_by_while_nobody_listens(database):
    live = Live(database)
    live.take(said(1, 1))
    live.session.disconnected()
    live.take(said(2 * FAR_AHEAD, 600))
    live.close()
    assert live.session.counts.rejected == 0
    with connect(database) as connection:
        (gap,) = open_gaps(connection, "simulated")
    assert gap.missing_count == 2 * FAR_AHEAD - 2


def test_ids_that_begin_anew_far_ahead_are_a_new_count_once_the_next_follows(database):
    live = Live(database)
    new = 10**15
    live.take(said(1, 1), said(2, 2), said(new, 3), said(new + 1, 4), said(new + 2, 70))
    live.close()
    assert stored(database) == [1, 2, new + 1, new + 2]
    with connect(database) as connection:
        (gap,) = open_gaps(connection, "simulated")
        assert (gap.cause, gap.missing_count) == ("id_reset", None)
        adapter = exchanges.find("simulated")
        trades = [
            event.trade
            for number, seconds in ((2, 2), (new, 3), (new + 1, 4))
            for event in adapter.parse(said(number, seconds), "")
        ]
        part = Part(gap.from_timestamp, gap.to_timestamp)
        assert healing.fill(connection, gap, part, trades) == 1
    assert stored(database) == [1, 2, new, new + 1, new + 2]
    assert_right(database)


@pytest.mark.parametrize("is_in_one_batch", [True, False])
def test_ids_that_begin_anew_at_once_give_what_a_rebuild_gives(database, is_in_one_batch):
    """The hole between both counts has no length: the two spans touch."""
    live = Live(database)
    live.take(*(said(900 + n, n) for n in range(51)))
    if not is_in_one_batch:
        live.write()
    moment = START + 50 * SECOND + 1
    live.stream.trade(Trade(SYMBOL, moment, "1", 1, 101.0, 0.5, Side.BUY), moment)
    live.take(*(said(2 + n, 51 + n) for n in range(40)))
    live.write()
    live.take(*(said(42 + n, 130 + n) for n in range(10)))
    live.close()
    assert len(stored(database)) == 102
    with connect(database) as connection:
        (reset,) = open_gaps(connection, "simulated")
    assert (reset.cause, reset.from_timestamp, reset.to_timestamp) == ("id_reset", moment, moment)
    assert_right(database, holes=1)


def test_trades_from_before_the_tape_get_spans_of_their_own(database):
    first = Live(database)
    first.take(*(said(1000 + n, n) for n in range(80)))
    first.close()
    again = Live(database)
    for begin in range(0, 90, 30):
        again.take(*(said(100 + n, n - 7200) for n in range(begin, begin + 30)))
        again.write()
    again.close()
    assert len(stored(database)) == 170
    assert spans(database) == [(-7200, -7200 + 89 + 1e-6), (0, 79.000001)]
    assert_right(database)


def test_a_dead_markets_first_trade_makes_no_candles_of_all_the_years_since(database):
    live = Live(database)
    years = -3 * 365 * 86_400
    live.take(said(1, years), said(2, years + 90 * 86_400))
    live.write()
    live.session.stream(SYMBOL).show(START)
    live.write()
    live.take(said(3, 1), said(4, 70))
    live.close()
    assert stored(database) == [1, 2, 3, 4]
    last = years + 90 * 86_400
    assert spans(database) == [(years, years + 1e-6), (last, last + 1e-6), (1, 70.000001)]
    with connect(database) as connection:
        assert connection.execute("SELECT count(*) < 100 FROM candles").fetchone() == (True,)
    assert_right(database)


def test_a_collector_that_was_away_for_long_says_what_it_missed_and_only_that(database):
    away = LEAP / SECOND + 3600
    first = Live(database)
    first.take(said(1, 1 - away), said(2, 2 - away))
    first.close()
    second = Live(database)
    second.take(said(3, 0), said(4, 70))
    second.close()
    assert_right(database)
    with connect(database) as connection:
        connection.execute("DELETE FROM trades WHERE trade_seq > 2")
        connection.execute("DELETE FROM stream_coverage WHERE from_timestamp >= '2026-03-01'")
        rebuild.rebuild(connection, *KEY, START - 40 * DAY, START + DAY, "repair")
    third = Live(database)
    third.take(said(5, 0), said(6, 70))
    third.close()
    with connect(database) as connection:
        (gap,) = open_gaps(connection, "simulated")
    assert (gap.from_id, gap.to_id) == ("3", "4")
