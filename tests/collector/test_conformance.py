"""What every adapter must do, whatever its exchange; fed by recordings and by the documents' samples."""

from collections import defaultdict
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit

import msgspec
import pytest
import recordings
from hypothesis import given
from hypothesis import strategies as st

from collector.exchanges import EXCHANGES, find
from collector.exchanges.adapter import MalformedMessage
from collector.exchanges.events import (
    BookDelta,
    BookReset,
    CandleSeen,
    Heard,
    Subscribed,
    TradeSeen,
    Unhandled,
)
from collector.recording import Received, RestAnswer, read
from market import Instrument, OrderBook, Timeframe, Trade, WrongUse

KRAKEN_SAMPLES = "messages/kraken/ws_*.json"
FILES = {**recordings.FILES, "simulated": recordings.FILES["binance"]}
JUNK = [
    b"",
    b"null",
    b"1",
    b'""',
    b"[]",
    b"{}",
    b"[[]]",
    b"\xff",
    b'{"a":',
    b"[" * 5000,
    b'{"e":1}',
    b'{"e":[]}',
]
JUNK += [b'{"type":{}}', b'{"channel":[]}', b'{"event":null}', b'{"method":7}', b"[1,[],2,3]", b'{"data":3}']
DAY = 24 * 3600 * 1_000_000


@pytest.fixture(params=sorted(EXCHANGES))
def exchange(request):
    return request.param


@cache
def frames(folder: Path, exchange: str) -> list:
    if exchange == "kraken":
        bodies = [path.read_bytes() for path in sorted(folder.glob(KRAKEN_SAMPLES))]
        return [Received(1_700_000_000_000_000, body) for body in bodies]
    return list(read([folder / name for name in FILES[exchange]]))


def messages(folder, exchange):
    return [frame.message for frame in frames(folder, exchange) if isinstance(frame, Received)]


def events(folder, exchange):
    """(adapter, everything that a session's frames say, in order)."""
    known, found = find(exchange), []
    for frame in frames(folder, exchange):
        if isinstance(frame, Received):
            found += known.parse(frame.message)
        elif isinstance(frame, RestAnswer):
            answer = known.parse_rest(frame.url, frame.body)
            known.add_instruments(item for item in answer if isinstance(item, Instrument))
            found += [item for item in answer if not isinstance(item, Instrument)]
    return known, found


def test_the_registry_knows_every_exchange_by_its_own_id():
    assert all(find(name).exchange == name for name in EXCHANGES)
    with pytest.raises(WrongUse, match="use one of binance, coinbase, kraken, kraken_v1, simulated"):
        find("mtgox")


def test_addresses_have_no_path(exchange):
    known = find(exchange)
    for url, schemes in ((known.ws_url, ("ws", "wss")), (known.rest_url, ("http", "https"))):
        parts = urlsplit(url)
        assert parts.scheme in schemes
        assert parts.hostname
        assert not parts.path


def test_requests_are_well_formed(exchange):
    known = find(exchange)
    symbols = ["BTC/USDT", "ETH/BTC"]
    lines = known.lines(symbols)
    assert all(line.path.startswith("/") and line.symbols == tuple(symbols) for line in lines)
    texts = [text for line in lines for text in line.subscribe] + known.resubscribe_book("BTC/USDT")
    assert all(isinstance(msgspec.json.decode(text), dict) for text in texts)
    for request in (*known.instruments_requests(), known.book_request("BTC/USDT")):
        assert request is None or request.path.startswith("/")
    has_book_request = known.book_request("BTC/USDT") is not None
    assert has_book_request == (known.book_rule == "rest_snapshot")
    assert bool(known.resubscribe_book("BTC/USDT")) == (known.book_rule == "stream_snapshot")
    if keep_alive := known.keep_alive():
        assert 0 < keep_alive[0] < 60
    assert known.silence_limit > 0


def test_nothing_in_the_recordings_is_unknown_or_damaged(exchange, shared_data):
    _, found = events(shared_data, exchange)
    assert found
    assert [event for event in found if isinstance(event, Unhandled)] == []


def test_bytes_and_text_say_the_same(exchange, shared_data):
    one, other = find(exchange), find(exchange)
    for message in messages(shared_data, exchange):
        assert one.parse(message) == other.parse(message.decode())


def test_trades_are_what_the_tape_takes(exchange, shared_data):
    known, found = events(shared_data, exchange)
    trades = [event.trade for event in found if isinstance(event, TradeSeen)]
    assert trades
    for trade in trades:
        assert known.instrument_for(trade.symbol).symbol == trade.symbol
        assert trade.price > 0
        assert trade.size > 0
        assert trade.side in ("buy", "sell")
        assert 0 <= trade.trade_seq < 2**63
        assert trade.fill_count >= 1
    keys = [(trade.symbol, trade.trade_id) for trade in trades]
    assert len(set(keys)) == len(keys)


def test_trade_ids_are_consecutive_where_the_adapter_says_so(exchange, shared_data):
    known, found = events(shared_data, exchange)
    by_symbol: dict[str, list[Trade]] = defaultdict(list)
    for event in found:
        if isinstance(event, TradeSeen):
            by_symbol[event.trade.symbol].append(event.trade)
    for symbol, trades in by_symbol.items():
        assert known.instrument_for(symbol).trade_ids_consecutive == known.has_consecutive_ids
        ids = [trade.trade_seq for trade in trades]
        if known.has_consecutive_ids:
            assert ids == list(range(ids[0], ids[0] + len(ids)))


def test_times_are_of_the_recording(exchange, shared_data):
    if exchange == "kraken":
        pytest.skip("the samples are of many days")
    start = frames(shared_data, exchange)[0].t
    _, found = events(shared_data, exchange)
    for event in found:
        time = event.trade.timestamp if isinstance(event, TradeSeen) else getattr(event, "timestamp", None)
        assert time is None or abs(time - start) < DAY


def test_candles_are_candles(exchange, shared_data):
    _, found = events(shared_data, exchange)
    for candle in (event for event in found if isinstance(event, CandleSeen)):
        assert candle.low <= min(candle.open, candle.close) <= max(candle.open, candle.close) <= candle.high
        assert candle.timeframe is Timeframe.M1
        assert candle.open_time % candle.timeframe.microseconds == 0


def test_books_follow_match_their_checksums_and_never_cross(exchange, shared_data):
    if exchange == "kraken":
        pytest.skip("the samples hold too few levels")
    known, found = events(shared_data, exchange)
    books: dict[str, OrderBook] = {}
    sequences = {}
    applied = 0
    # A whole book over REST comes between changes: those that it holds already must be recognised.
    for event in found:
        if isinstance(event, BookReset):
            books[event.symbol] = OrderBook()
            books[event.symbol].replace(event.bids, event.asks)
            sequences[event.symbol] = known.book_sequence(event.symbol)
            sequences[event.symbol].reset(event)
        elif isinstance(event, BookDelta) and event.symbol in books:
            follows = sequences[event.symbol].follows(event)
            assert follows is not False
            if follows:
                books[event.symbol].apply(event.bids, event.asks)
                assert sequences[event.symbol].check(event, books[event.symbol]) is not False
                assert not books[event.symbol].is_crossed
                applied += 1
    assert applied > 150
    assert all(len(book) for book in books.values())


def test_no_change_follows_before_a_whole_book(exchange):
    sequence = find(exchange).book_sequence("BTC/USDT")
    assert sequence.follows(BookDelta("BTC/USDT", 0, [("1", "1")], [], 1, 2)) is False


def test_listed_symbols_resolve_both_ways_and_the_rule_agrees(exchange, shared_data):
    known, _ = events(shared_data, exchange)
    by_rule = find(exchange)
    for instrument in known.instruments:
        assert known.instrument_of(instrument.exchange_symbol) == instrument
        assert known.instrument_for(instrument.symbol) == instrument
        assert instrument.symbol == f"{instrument.base}/{instrument.quote}"
        assert by_rule.instrument_of(instrument.exchange_symbol).symbol == instrument.symbol
        assert by_rule.instrument_for(instrument.symbol).exchange_symbol == instrument.exchange_symbol


def test_what_is_no_symbol_is_wrong_use(exchange):
    known = find(exchange)
    for text in ("", "BTCUSDT", "btc/usdt", "BTC/", "/USDT", "BTC/USDT:USDT", "BTC-USDT", "BTC/USDT/X"):
        with pytest.raises(WrongUse, match="write it like BTC/USDT"):
            known.instrument_for(text)
    for text in ("", "§", "-", "/", "USDT", "BTC_USDT"):
        with pytest.raises(WrongUse, match="cannot resolve"):
            known.instrument_of(text)


def test_a_symbol_that_the_exchange_does_not_list_is_wrong_use(exchange):
    known = find(exchange)
    known.add_instruments([known.by_symbol_rule("BTC/USDT")])
    assert known.instrument_for("BTC/USDT").base == "BTC"
    with pytest.raises(WrongUse, match="does not list NOPE/USDT"):
        known.instrument_for("NOPE/USDT")


@pytest.mark.parametrize("message", JUNK)
def test_junk_is_unknown_or_damaged_and_never_data(exchange, message):
    try:
        found = find(exchange).parse(message)
    except MalformedMessage:
        return
    assert not any(isinstance(event, TradeSeen | BookDelta | BookReset | CandleSeen) for event in found)
    assert all(isinstance(event, Unhandled) for event in found) or message in (b'{"event":null}',)


@pytest.mark.parametrize("body", [*JUNK, b'{"code":-1121,"msg":"x"}', b'{"error":["x"]}', b'{"message":"x"}'])
def test_junk_over_rest_is_unknown_or_damaged(exchange, body):
    known = find(exchange)
    paths = ["/", "/nowhere?x=1"]
    paths += [r.path for r in (*known.instruments_requests(), known.book_request("BTC/USDT")) if r]
    for path in paths:
        try:
            found = known.parse_rest(path, body)
        except (MalformedMessage, WrongUse):
            continue
        assert all(isinstance(event, Heard | Unhandled) for event in found)


@st.composite
def mutations(draw, message: bytes) -> bytes:
    """`message` with a few bytes changed, cut out, doubled or put in."""
    data = bytearray(message[:4000])
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(data)))
        end = draw(st.integers(start, min(len(data), start + 12)))
        filling = draw(
            st.sampled_from(FILLINGS) | st.binary(max_size=4) | st.just(bytes(data[start:end]) * 2)
        )
        data[start:end] = filling
    return bytes(data)


FILLINGS = [b"0", b"9" * 20, b"-1", b"1e999", b"null", b"true", b'""', b"[]", b"{}", b'"', b",", b":", b"nan"]
FILLINGS += [b'"nan"', b'"1e5"', b"\\u0000", b"1.5", b'"-0"', "€".encode(), b"]", b"}", b'"a":1,']


@given(data=st.data())
def test_whatever_comes_is_only_ever_damaged(shared_data, data):
    exchange = data.draw(st.sampled_from(sorted(EXCHANGES)))
    known = find(exchange)
    by_length = sorted(messages(shared_data, exchange), key=len)
    message = data.draw(st.sampled_from(kinds(by_length)).flatmap(mutations))
    try:
        found = known.parse(message)
    except (MalformedMessage, WrongUse):
        return
    for event in found:
        take(known, event)


def kinds(ordered: list[bytes]) -> list[bytes]:
    """A few messages of every beginning."""
    found: dict[bytes, list[bytes]] = defaultdict(list)
    for message in ordered:
        found[message[:20]].append(message)
    return [message for same in found.values() for message in same[:3]]


def take(known, event) -> None:
    """Whatever an adapter gives out can be worked with."""
    match event:
        case TradeSeen(trade):
            assert 0 < trade.price < float("inf")
            assert 0 < trade.size < float("inf")
            assert -(2**62) < trade.timestamp < 2**62
            assert 0 <= trade.trade_seq < 2**63
        case BookReset() | BookDelta():
            book = OrderBook()
            book.replace(event.bids, event.asks)
            book.apply(event.bids, event.asks)
            sequence = known.book_sequence(event.symbol)
            if isinstance(event, BookReset):
                sequence.reset(event)
            else:
                sequence.check(event, book)
        case CandleSeen():
            assert 0 < event.low <= event.high < float("inf")
        case Subscribed(symbols=symbols):
            assert all(known.instrument_for(symbol) for symbol in symbols)
        case _:
            assert msgspec.json.encode(event)
