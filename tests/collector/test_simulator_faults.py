"""The schedule of faults, and what each makes of a connection's messages and of REST's answers. All pure."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collector.simulator.faults import KINDS, Fault, possible, schedule
from collector.simulator.protocol import Message
from collector.simulator.protocols import speaking
from collector.simulator.trouble import (
    OLD_BOOK,
    REORDER_WITHIN,
    Line,
    Timeline,
    disturb,
    rest_trouble,
)
from market import MICROSECONDS, WrongUse, parse_time

SYMBOLS = ("BTC/USDT", "ETH/USDT", "SOL/USDT")
START = parse_time("2026-01-01T11:50:00Z")
SECOND = MICROSECONDS
EVERY = 60 * SECOND
END = START + 40 * EVERY
STREAMS = "/".join(
    f"{name}@{kind}" for name in ("btcusdt", "ethusdt") for kind in ("trade", "depth", "kline_1m")
)


def fault(kind, begin, seconds, symbol=None, key=7):
    return Fault(
        kind=kind,
        begin=START + begin * SECOND,
        end=START + (begin + seconds) * SECOND,
        symbol=symbol,
        key=key,
    )


def messages(seconds, protocol=None):
    session = (protocol or speaking("binance", SYMBOLS[:2], 7)).connect(f"/stream?streams={STREAMS}")
    return session.messages(START, START + seconds * SECOND)


def through(faults, seconds=60, opened=START, slices=1.0):
    """What a connection is sent, slice after slice, until it is cut."""
    line, found = Line(faults, opened), []
    protocol = speaking("binance", SYMBOLS[:2], 7)
    session = protocol.connect(f"/stream?streams={STREAMS}")
    step = int(slices * SECOND)
    for begin in range(START, START + seconds * SECOND, step):
        found += line.take(begin, begin + step, session.messages(begin, begin + step))
        if line.is_cut:
            return found, begin
    return found, None


def texts(found):
    return [json.loads(each.payload)["data"] for each in found]


def test_a_schedule_follows_from_its_seed():
    one, same = (schedule(5, START, END, SYMBOLS, every=EVERY) for _ in range(2))
    assert one == same
    assert one != schedule(6, START, END, SYMBOLS, every=EVERY)
    later = schedule(5, START + 9 * SECOND, END + 9 * SECOND, SYMBOLS, every=EVERY)
    of_market = {"id_reset", "delisting"}
    assert [(f.kind, f.begin + 9 * SECOND) for f in one if f.kind not in of_market | {"halt"}] == [
        (f.kind, f.begin) for f in later if f.kind not in of_market | {"halt"}
    ]


@given(st.integers(), st.integers(5, 60), st.integers(1, 3))
@settings(max_examples=40, deadline=None)
def test_every_schedule_is_calm_at_both_ends_and_deals_all_kinds(seed, slots, symbol_count):
    end = START + slots * EVERY
    faults = schedule(seed, START, end, SYMBOLS[:symbol_count], every=EVERY)
    assert faults == sorted(faults, key=lambda each: each.begin)
    assert all(START + EVERY <= each.begin < end - 3 * EVERY for each in faults)
    assert all(each.begin < each.end for each in faults)
    assert all(each.end <= end - EVERY for each in faults if each.kind != "delisting")
    assert all(each.symbol is None or each.symbol in SYMBOLS[:symbol_count] for each in faults)
    dealt = [each.kind for each in faults if each.kind not in ("delisting", "id_reset")]
    assert len(dealt) == slots - 4
    kinds = len(KINDS) - 2
    for deal in range(0, len(dealt), kinds):
        assert len(set(dealt[deal : deal + kinds])) == len(dealt[deal : deal + kinds])
    for kind, most in (("delisting", symbol_count > 1), ("id_reset", 1)):
        assert sum(each.kind == kind for each in faults) <= most


def test_over_some_seeds_every_kind_comes_and_only_what_a_protocol_can_do():
    found = {each.kind for seed in range(30) for each in schedule(seed, START, END, SYMBOLS, every=EVERY)}
    assert found == set(KINDS)
    assert "bad_checksum" not in possible("binance")
    assert "bad_checksum" in possible("kraken")
    kinds = possible("coinbase")
    faults = schedule(3, START, END, SYMBOLS, every=EVERY, kinds=kinds)
    assert {each.kind for each in faults} <= set(kinds)
    assert schedule(3, START, END, SYMBOLS, every=EVERY, kinds=()) == []


def test_too_many_faults_are_refused():
    with pytest.raises(WrongUse, match="too many"):
        schedule(1, START, END, SYMBOLS, every=1000)


@given(st.integers(), st.integers())
@settings(max_examples=60, deadline=None)
def test_a_timeline_finds_what_is_on(begin, length):
    faults = schedule(1, START, END, SYMBOLS, every=EVERY)
    begin = START + begin % (END - START)
    end = begin + 1 + length % EVERY
    assert Timeline(faults).between(begin, end) == [f for f in faults if f.begin < end and f.end > begin]


def test_without_faults_everything_is_sent_as_it_is():
    found, cut_at = through([fault("stall", 1000, 5)])
    assert found == messages(60)
    assert cut_at is None


@pytest.mark.parametrize("slices", [0.05, 1.0, 7.0])
def test_a_stall_keeps_everything_back_and_in_order(slices):
    found, _ = through([fault("stall", 10, 20)], 63, slices=slices)
    assert found == messages(63)
    line = Line([fault("stall", 10, 20)], START)
    everything = messages(60)
    first = line.take(START, START + 29 * SECOND, [m for m in everything if m.time < START + 29 * SECOND])
    assert [m for m in everything if m.time < START + 10 * SECOND] == first


def test_a_cut_ends_the_connection_at_its_moment():
    found, cut_at = through([fault("cut", 10, 0.001)])
    assert cut_at == START + 10 * SECOND
    assert found == [m for m in messages(60) if m.time < START + 10 * SECOND]


def test_whoever_comes_after_a_cut_is_spared():
    for kind in ("cut", "maintenance", "half_open", "halt"):
        _, cut_at = through([fault(kind, -1, 30)])
        assert cut_at is None


def test_a_half_open_connection_is_silent_and_then_cut():
    found, cut_at = through([fault("half_open", 10, 20)])
    assert cut_at == START + 29 * SECOND
    assert found == [m for m in messages(60) if m.time < START + 10 * SECOND]
    late, cut_at = through([fault("half_open", 10, 20)], opened=START + 11 * SECOND)
    assert (late, cut_at) == (messages(60), None), "who connects meanwhile hears"


def test_duplicates_are_the_same_again():
    found, _ = through([fault("duplicate", 0, 60)])
    everything = messages(60)
    assert len(everything) * 1.2 < len(found) < len(everything) * 1.8
    assert list(dict.fromkeys(found)) == list(dict.fromkeys(everything))


def test_reordered_messages_all_come_soon():
    found, _ = through([fault("reorder", 0, 50)], slices=0.02)
    everything = messages(60)
    assert found != everything
    assert sorted(found, key=everything.index) == everything
    reached = 0
    for message in found:
        reached = max(reached, message.time)
        assert message.time >= reached - REORDER_WITHIN - SECOND


@pytest.mark.parametrize(("kind", "lost"), [("lost_trade", "trade"), ("lost_delta", "book")])
def test_lost_messages_are_of_one_symbol_and_kind(kind, lost):
    found, _ = through([fault(kind, 5, 50, "ETH/USDT")])
    missing = [each for each in messages(60) if each not in found]
    assert len(missing) > 3
    assert {(each.kind, each.symbol) for each in missing} == {(lost, "ETH/USDT")}
    assert all(START + 5 * SECOND <= each.time < START + 55 * SECOND for each in missing)


def test_the_books_ids_jump_for_one_symbol_and_back():
    found, _ = through([fault("sequence_break", 10, 20, "BTC/USDT")])
    updates = [each for each in texts(found) if each["e"] == "depthUpdate" and each["s"] == "BTCUSDT"]
    before = [text for text in texts(messages(60)) if text["e"] == "depthUpdate" and text["s"] == "BTCUSDT"]
    jumps = [got["u"] - should["u"] for got, should in zip(updates, before, strict=True)]
    assert jumps == [0] * 10 + [100_000] * 20 + [0] * 30
    assert [each["u"] - each["U"] for each in updates] == [each["u"] - each["U"] for each in before]


def test_checksums_are_made_wrong():
    line = Line([fault("bad_checksum", 0, 9)], START)
    text = '{"channel":"book","data":[{"symbol":"BTC/USD","checksum":123,"bids":[]}]}'
    (sent,) = line.take(START, START + SECOND, [Message(START, "book", "BTC/USD", text)])
    assert json.loads(sent.payload)["data"][0]["checksum"] == 124
    assert sent.kind == "other"


def test_a_wrong_clock_moves_the_events_but_no_trade():
    found, _ = through([fault("clock_jump", 0, 60)])
    before = texts(messages(60))
    shifts = {got["E"] - should["E"] for got, should in zip(texts(found), before, strict=True)}
    assert len(shifts) == 1
    assert abs(shifts.pop()) >= 1000
    trades = [each for each in found if each.kind == "trade"]
    assert [t["T"] for t in texts(trades)] == [t["T"] for t in before if t["e"] == "trade"]


@pytest.mark.parametrize("kind", ["malformed", "absurd"])
def test_what_was_spoiled_is_told_apart(kind):
    found, _ = through([fault(kind, 0, 60)])
    everything = messages(60)
    assert len(found) == len(everything)
    spoiled = [got for got, should in zip(found, everything, strict=True) if got != should]
    assert len(spoiled) > 20
    assert {each.kind for each in spoiled} == {"other"}


def test_a_burst_repeats_the_past():
    found, _ = through([fault("burst", 30, 0.001)])
    everything = messages(60)
    assert set(found) == set(everything)
    repeated = len([each for each in everything if each.time < START + 30 * SECOND])
    assert len(found) == len(everything) + repeated


def test_what_rest_says():
    faults = Timeline(
        [
            fault("throttle", 10, 10),
            fault("maintenance", 30, 10),
            fault("slow_rest", 50, 10),
            fault("old_book", 70, 10),
            fault("broken_rest", 90, 10),
        ]
    )

    def at(second, target="/api/v3/depth?symbol=BTCUSDT"):
        return rest_trouble(faults, target, START + second * SECOND)

    assert (at(5).status, at(5).is_broken, at(5).wait_until) == (200, False, START + 5 * SECOND)
    assert [at(second).status for second in (10, 14, 15, 19, 20)] == [429, 429, 418, 418, 200]
    assert at(12).retry_at == START + 20 * SECOND
    assert (at(35).status, at(35).retry_at) == (503, None)
    assert at(51).wait_until == START + 60 * SECOND
    assert at(75).now == START + 75 * SECOND - OLD_BOOK
    assert at(75, "/api/v3/historicalTrades").now == START + 75 * SECOND
    assert at(95).is_broken


def trades_over_rest(protocol, now, query):
    return json.loads(protocol.answer(f"/api/v3/historicalTrades?symbol=BTCUSDT&{query}", now).body)


def test_ids_that_begin_anew_and_their_history():
    hour = parse_time("2026-01-01T12:00:00Z")
    before, protocol = (speaking("binance", SYMBOLS, 7) for _ in range(2))
    moment = Fault(kind="id_reset", begin=hour, end=hour + 1, symbol="BTC/USDT", key=1)
    disturb(protocol.markets["BTC/USDT"], [moment])
    begin, end = hour - 60 * SECOND, hour + 60 * SECOND
    last_old = protocol.markets["BTC/USDT"].last_old_id

    def sent(which):
        session = which.connect("/ws/btcusdt@trade")
        return [json.loads(each.payload) for each in session.messages(begin, end)]

    was, now = sent(before), sent(protocol)
    assert [t["t"] if t["t"] <= last_old else t["t"] - last_old for t in was] == [t["t"] for t in now]
    assert [(t["T"], t["p"], t["q"]) for t in was] == [(t["T"], t["p"], t["q"]) for t in now]
    new = [t["t"] for t in now if t["T"] * 1000 >= hour]
    assert new == list(range(1, len(new) + 1))
    over = trades_over_rest(protocol, end, f"fromId={last_old - 9}&limit=100")
    assert [t["id"] for t in over] == list(range(last_old - 9, last_old + 1))
    over = trades_over_rest(protocol, end, "fromId=1&limit=1000")
    assert [t["id"] for t in over] == new
    # What has not happened yet nobody gives, whichever count it belongs to.
    assert trades_over_rest(protocol, end, f"fromId={new[-1] + 1}&limit=1000") == []
    assert trades_over_rest(protocol, end, f"fromId={last_old + 1}&limit=1000") == []
    by_time = json.loads(
        protocol.answer(f"/api/v3/aggTrades?symbol=BTCUSDT&startTime={hour // 1000}&limit=3", end).body
    )
    assert [t["a"] for t in by_time] == [1, 2, 3]


def test_a_halt_moves_its_trades_to_its_end_and_keeps_their_ids():
    begin, end = START + 100 * SECOND, START + 200 * SECOND
    before, protocol = (speaking("binance", SYMBOLS, 7) for _ in range(2))
    disturb(protocol.markets["ETH/USDT"], [Fault(kind="halt", begin=begin, end=end, symbol=None, key=1)])

    def sent(which):
        session = which.connect("/ws/ethusdt@trade")
        return [json.loads(each.payload) for each in session.messages(START, START + 300 * SECOND)]

    was, now = sent(before), sent(protocol)
    assert [t["t"] for t in was] == [t["t"] for t in now]
    moved = [max(t["T"], end // 1000) if begin // 1000 <= t["T"] < end // 1000 else t["T"] for t in was]
    assert [t["T"] for t in now] == moved
    assert moved != [t["T"] for t in was]


def test_a_delisted_symbol_trades_no_more_and_says_so():
    protocol = speaking("binance", SYMBOLS, 7)
    closes = START + 100 * SECOND
    disturb(
        protocol.markets["BTC/USDT"],
        [Fault(kind="delisting", begin=closes, end=END, symbol="BTC/USDT", key=1)],
    )

    def status(now):
        listed = json.loads(protocol.answer("/api/v3/exchangeInfo", now).body)["symbols"]
        return {each["symbol"]: each["status"] for each in listed}

    assert set(status(closes - SECOND).values()) == {"TRADING"}
    assert status(closes) == {"BTCUSDT": "BREAK", "ETHUSDT": "TRADING", "SOLUSDT": "TRADING"}
    newest = trades_over_rest(protocol, END, "limit=5")
    assert max(t["time"] for t in newest) * 1000 < closes
    assert newest == trades_over_rest(protocol, closes, "limit=5")
