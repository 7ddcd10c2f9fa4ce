"""What every adapter must do, whatever its exchange; fed by recordings and by the documents' samples."""

import re
from collections import defaultdict
from urllib.parse import urlsplit

import msgspec
import pytest
from dialects import DIALECTS, HEARD, RECORDED, frames, learned, messages, text_of

from collector.exchanges import EXCHANGES, find
from collector.exchanges.adapter import STREAMS, MalformedMessage
from collector.exchanges.events import (
    Answer,
    BookDelta,
    BookReset,
    CandleSeen,
    Closing,
    Heard,
    Refused,
    Subscribed,
    TradeSeen,
    Unhandled,
)
from collector.recording import Received
from market import Instrument, MarketType, OrderBook, Timeframe, Trade, WrongUse

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


EVERY = pytest.mark.parametrize("exchange", sorted(EXCHANGES))
EVERY_HEARD = pytest.mark.parametrize("exchange", HEARD)
EVERY_RECORDED = pytest.mark.parametrize("exchange", RECORDED)


def events(folder, exchange):
    """(adapter, everything that the frames say, in order)."""
    known, found = learned(folder, exchange), []
    for frame in frames(folder, exchange):
        if isinstance(frame, Received):
            found += known.parse(frame.message, DIALECTS[exchange].path)
        else:
            answer = known.parse_rest(frame.url, frame.body)
            found += [item for item in answer if not isinstance(item, Instrument)]
    return known, found


def test_the_registry_knows_every_exchange_by_its_own_id():
    assert all(find(name).exchange == name for name in EXCHANGES)
    with pytest.raises(WrongUse, match=r"use one of binance, .*coinbase, htx, kraken, kraken_v1, okx"):
        find("mtgox")


def test_every_exchange_is_described_here():
    assert set(DIALECTS) == set(EXCHANGES)
    assert set(HEARD) == set(EXCHANGES)


@EVERY
def test_addresses_have_no_path(exchange):
    known = find(exchange)
    for url, schemes in ((known.ws_url, ("ws", "wss")), (known.rest_url, ("http", "https"))):
        parts = urlsplit(url)
        assert parts.scheme in schemes
        assert parts.hostname
        assert not parts.path


@EVERY
def test_limits_and_facts_are_said(exchange):
    known = find(exchange)
    assert known.silence_limit > 0
    assert 0 < known.symbols_per_line <= 1024
    assert known.lifetime is None or known.lifetime > 3600
    assert 0 <= known.send_interval <= 1
    weight_a_second, burst = known.rest_rate
    assert 0 < weight_a_second <= burst
    assert all(getattr(known.facts, name) for name in known.facts.__struct_fields__)
    if keep_alive := known.keep_alive():
        assert 0 < keep_alive[0] < 60
        assert keep_alive[1]


@EVERY
def test_requests_are_well_formed(exchange):
    known = find(exchange)
    symbol = DIALECTS[exchange].symbols[0][0]
    lines = known.lines([symbol])
    texts = [text for line in lines for text in line.subscribe] + known.resubscribe_book(symbol)
    assert all(isinstance(msgspec.json.decode(text), dict) for text in texts)
    requests = known.instruments_requests()
    assert requests or exchange == "kraken_v1"
    book_request = known.book_request(symbol)
    for request in (*requests, *([book_request] if book_request else [])):
        assert request.path.startswith("/")
        assert 0 < request.weight <= known.rest_rate[1]
    assert (book_request is not None) == (known.book_rule == "rest_snapshot")
    assert bool(known.resubscribe_book(symbol)) == (known.book_rule == "stream_snapshot")


@EVERY
def test_lines_carry_every_stream_of_every_symbol_once_and_no_more_than_allowed(exchange):
    known = find(exchange)
    quote = DIALECTS[exchange].symbols[0][0].partition("/")[2]
    symbols = [f"A{number}/{quote}" for number in range(2 * known.symbols_per_line + 1)]
    lines = known.lines(symbols)
    assert all(line.path.startswith("/") for line in lines)
    assert all(0 < len(line.symbols) <= known.symbols_per_line for line in lines)
    for stream in STREAMS:
        carried = [symbol for line in lines if stream in line.streams for symbol in line.symbols]
        assert carried == symbols
    for line in lines:
        said = line.path + "".join(line.subscribe)
        for symbol in line.symbols:
            assert re.search(rf"(?i)\b{known.instrument_for(symbol).exchange_symbol}", said)


@EVERY
def test_control_messages_are_understood(exchange):
    known = find(exchange)
    for message, event in DIALECTS[exchange].control:
        assert known.parse(message) == [event]
        assert known.parse(message.decode()) == [event]
    kinds = {type(event) for _, event in DIALECTS[exchange].control}
    assert {Subscribed, Refused} <= kinds
    assert kinds & {Heard, Answer, Closing}


@EVERY_HEARD
def test_nothing_in_the_recordings_is_unknown_or_damaged(exchange, shared_data):
    _, found = events(shared_data, exchange)
    assert found
    assert [event for event in found if isinstance(event, Unhandled)] == []


@EVERY_HEARD
def test_bytes_and_text_say_the_same(exchange, shared_data):
    one, other = learned(shared_data, exchange), learned(shared_data, exchange)
    path = DIALECTS[exchange].path
    for message in messages(shared_data, exchange):
        assert one.parse(message, path) == other.parse(text_of(message), path)


@EVERY_HEARD
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


@EVERY_RECORDED
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


@EVERY_RECORDED
def test_times_are_of_the_recording(exchange, shared_data):
    start = frames(shared_data, exchange)[0].t
    _, found = events(shared_data, exchange)
    for event in found:
        time = event.trade.timestamp if isinstance(event, TradeSeen) else getattr(event, "timestamp", None)
        assert time is None or abs(time - start) < DAY


@EVERY_HEARD
def test_candles_are_candles(exchange, shared_data):
    _, found = events(shared_data, exchange)
    for candle in (event for event in found if isinstance(event, CandleSeen)):
        assert candle.low <= min(candle.open, candle.close) <= max(candle.open, candle.close) <= candle.high
        assert candle.timeframe is Timeframe.M1
        assert candle.open_time % candle.timeframe.microseconds == 0


@EVERY_RECORDED
def test_books_follow_match_their_checksums_and_never_cross(exchange, shared_data):
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
            assert sequences[event.symbol].check(event, books[event.symbol]) is not False
            assert not books[event.symbol].is_crossed
            applied += 1
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


@EVERY
def test_no_change_follows_before_a_whole_book(exchange):
    symbol = DIALECTS[exchange].symbols[0][0]
    sequence = find(exchange).book_sequence(symbol)
    assert sequence.follows(BookDelta(symbol, 0, [("1", "1")], [], 1, 2)) is False


@EVERY
def test_symbols_resolve_both_ways_by_rule(exchange):
    for symbol, name in DIALECTS[exchange].symbols:
        for known in (find(exchange), find(exchange)):
            assert known.instrument_for(symbol).exchange_symbol == name
            assert known.instrument_of(name).symbol == symbol
            assert known.instrument_of(name).exchange == exchange
        known = find(exchange)
        assert known.instrument_of(name) == find(exchange).instrument_for(symbol)


@EVERY_RECORDED
def test_listed_symbols_resolve_both_ways_and_the_rule_agrees(exchange, shared_data):
    known, by_rule = learned(shared_data, exchange), find(exchange)
    assert len(known.instruments) > 100
    for instrument in known.instruments:
        assert known.instrument_of(instrument.exchange_symbol) == instrument
        assert known.instrument_for(instrument.symbol) == instrument
        pair = f"{instrument.base}/{instrument.quote}"
        is_spot = instrument.market_type is MarketType.SPOT
        assert instrument.symbol == pair if is_spot else instrument.symbol.startswith(f"{pair}:")
        if is_spot or by_rule.by_rule(instrument.exchange_symbol) is not None:
            assert by_rule.instrument_of(instrument.exchange_symbol).symbol == instrument.symbol
            assert by_rule.instrument_for(instrument.symbol).exchange_symbol == instrument.exchange_symbol


@EVERY
def test_what_is_no_symbol_is_wrong_use(exchange):
    known = find(exchange)
    wrong = ["", "BTCUSDT", "btc/usdt", "BTC/", "/USDT", "BTC-USDT", "BTC/USDT/X", "BTC/USDT:", "BTC/:USDT"]
    for text in wrong:
        with pytest.raises(WrongUse, match=f"write it like {DIALECTS[exchange].like}"):
            known.instrument_for(text)
    for text in ("", "§", "-", "/", "USDT", "BTC_USDT"):
        with pytest.raises(WrongUse, match="cannot resolve"):
            known.instrument_of(text)


@EVERY
def test_a_symbol_that_the_exchange_does_not_list_is_wrong_use(exchange):
    known = find(exchange)
    listed_one, other = (symbol for symbol, _ in DIALECTS[exchange].symbols)
    known.add_instruments([known.by_symbol_rule(listed_one)])
    assert known.instrument_for(listed_one).symbol == listed_one
    with pytest.raises(WrongUse, match=f"does not list {other}"):
        known.instrument_for(other)


@EVERY
@pytest.mark.parametrize("message", JUNK)
def test_junk_is_unknown_or_damaged_and_never_data(exchange, message):
    try:
        found = find(exchange).parse(message, DIALECTS[exchange].path)
    except MalformedMessage:
        return
    assert not any(isinstance(event, TradeSeen | BookDelta | BookReset | CandleSeen) for event in found)
    assert all(isinstance(event, Unhandled) for event in found) or message in (b'{"event":null}',)


@EVERY
@pytest.mark.parametrize("body", [*JUNK, b'{"code":-1121,"msg":"x"}', b'{"error":["x"]}', b'{"message":"x"}'])
def test_junk_over_rest_is_unknown_or_damaged(exchange, body):
    known = find(exchange)
    paths = ["/", "/nowhere?x=1"]
    book = known.book_request(DIALECTS[exchange].symbols[0][0])
    paths += [request.path for request in (*known.instruments_requests(), book) if request]
    for path in paths:
        try:
            found = known.parse_rest(path, body)
        except (MalformedMessage, WrongUse):
            continue
        assert all(isinstance(event, Heard | Unhandled) for event in found)
