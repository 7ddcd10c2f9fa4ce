"""Exchanges through ccxt: what its unified structures become, whatever they hold."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector import exchanges
from collector.exchanges.adapter import MalformedMessage
from collector.exchanges.ccxt_unified import (
    Book,
    Candles,
    Ccxt,
    Failed,
    Market,
    Markets,
    Opened,
    Trades,
    UnifiedTrade,
    unified,
)
from collector.exchanges.events import BookDelta, BookReset, CandleSeen, Heard, Refused, TradeSeen, Unhandled
from collector.session import Session
from market import MICROSECONDS, Instrument, Side, Timeframe, Trade, WrongUse, parse_time
from market.instrument import MarketType
from tests.market.books import said

START = parse_time("2026-03-01T00:00:00Z")
MS = START // 1000
BTC = "BTC/USDT"


def text(message) -> bytes:
    return msgspec.json.encode(message)


def trades_of(adapter, *trades, symbol=BTC) -> list[Trade]:
    return [event.trade for event in adapter.parse(text(Trades(symbol, list(trades))))]


def trade(offset=0, price="100.5", amount="0.2", **rest) -> UnifiedTrade:
    return UnifiedTrade(MS + offset, price, amount, **rest)


def test_the_registry_finds_what_ccxt_speaks_and_our_own_first():
    found = exchanges.find("bitfinex")
    assert isinstance(found, Ccxt)
    assert found.exchange == "bitfinex"
    assert not isinstance(exchanges.find("kraken"), Ccxt)
    with pytest.raises(WrongUse, match="deltatape exchanges --all"):
        exchanges.find("mtgox")


def test_a_trade_with_a_number_for_an_id_keeps_both():
    (found,) = trades_of(unified("bitfinex"), trade(5, id="17", side="sell"))
    assert found == Trade(BTC, START + 5000, "17", 17, 100.5, 0.2, Side.SELL)


@pytest.mark.parametrize("trade_id", ["7f3a-99", "9" * 20, "-4", "٣", ""])
def test_an_id_that_is_no_number_takes_its_place_among_those_of_its_time(trade_id):
    adapter = unified("bitfinex")
    ids = [trade_id, "x", "y"]
    found = trades_of(adapter, *(trade(id=name) for name in ids))
    found += trades_of(adapter, trade(1, id="z"), trade(0, id="late"))
    assert [(t.trade_id, t.trade_seq) for t in found] == [
        *zip(ids, range(3), strict=True),
        ("z", 0),
        ("late", 3),
    ]


def test_trades_without_an_id_are_named_after_what_they_are():
    adapter = unified("bitfinex")
    twice = [trade(side="buy"), trade(side="buy"), trade(), trade(1, side="buy")]
    names = [(t.trade_id, t.trade_seq, t.side) for t in trades_of(adapter, *twice)]
    assert names == [
        (f"{START}-buy-100.5-0.2-0", 0, "buy"),
        (f"{START}-buy-100.5-0.2-1", 1, "buy"),
        (f"{START}-?-100.5-0.2-0", 2, None),
        (f"{START + 1000}-buy-100.5-0.2-0", 0, "buy"),
    ]


def test_what_is_given_again_after_a_reconnection_has_the_same_names():
    adapter = unified("bitfinex")
    batch = [trade(side="buy"), trade(side="buy"), trade(3)]
    before = trades_of(adapter, *batch)
    assert adapter.parse(text(Opened())) == [Heard("opened")]
    assert trades_of(adapter, *batch) == before


def test_counting_forgets_old_times(monkeypatch):
    monkeypatch.setattr("collector.exchanges.ccxt_unified.MAX_TIMES", 3)
    adapter = unified("bitfinex")
    trades_of(adapter, *(trade(offset) for offset in range(5)))
    assert [t.trade_seq for t in trades_of(adapter, trade(4), trade(0))] == [1, 0]


def test_a_book_is_whole():
    (found,) = unified("bitfinex").parse(text(Book(BTC, MS, [("100.5", "1")], [("1e2", "2")], 9)))
    assert found == BookReset(BTC, START, [("100.5", "1")], [("1e2", "2")], 9)


def test_candles_close_when_the_next_one_opens():
    session = Session(unified("bitfinex"), [BTC])
    rows = [(MS + minute * 60_000, "1.0", "3.0", "0.5", "2.0", "7.5") for minute in range(3)]
    for row in rows:
        session.message(text(Candles(BTC, Timeframe.M1, [row])), START)
    (stream,) = session.take().rows.values()
    kept = stream.exchange_candles
    assert [candle.timestamp for candle in kept] == [START, START + 60 * MICROSECONDS]
    assert (kept[0].open, kept[0].high, kept[0].low, kept[0].close, kept[0].volume) == (1, 3, 0.5, 2, 7.5)
    assert kept[0].buy_volume is None


def test_books_given_whole_again_and_again_make_a_snapshot_each_second():
    session = Session(unified("bitfinex"), [BTC])
    for quarter in range(20):
        bids = [(f"{100 + quarter}.5", "1.0")]
        session.message(text(Book(BTC, MS + quarter * 250, bids, [("200.0", "1.0")])), START)
    (stream,) = session.take().rows.values()
    assert [(b.timestamp - START) // MICROSECONDS for b in stream.books] == [1, 2, 3, 4]
    assert [said(b).best_bid for b in stream.books] == [103.5, 107.5, 111.5, 115.5]
    assert stream.gaps == []


def test_markets_are_learnt():
    adapter = unified("bitfinex")
    market = Market(
        "BTC/USDT:USDT", "tBTCF0", "BTC", "USDT", MarketType.LINEAR, tick_size="0.1", is_active=False
    )
    assert adapter.parse(text(Markets([market]))) == [Heard("markets")]
    assert adapter.instrument_for("BTC/USDT:USDT") == Instrument(
        exchange="bitfinex",
        symbol="BTC/USDT:USDT",
        exchange_symbol="tBTCF0",
        base="BTC",
        quote="USDT",
        market_type=MarketType.LINEAR,
        tick_size="0.1",
        is_active=False,
    )
    with pytest.raises(WrongUse, match="does not list ETH/USDT"):
        adapter.parse(text(Trades("ETH/USDT", [trade()])))


@pytest.mark.parametrize(
    ("symbol", "kind"),
    [
        ("BTC/USDT", MarketType.SPOT),
        ("BTC/USDT:USDT", MarketType.LINEAR),
        ("BTC/USD:BTC", MarketType.INVERSE),
        ("BTC/USDT:USDT-261225", MarketType.LINEAR),
        ("BTC/USDT:USDT-261225-90000-C", MarketType.LINEAR),
    ],
)
def test_symbols_say_what_they_are(symbol, kind):
    found = unified("bitfinex").instrument_for(symbol)
    assert (found.symbol, found.market_type, found.base) == (symbol, kind, "BTC")


@pytest.mark.parametrize(
    "symbol", ["", "BTCUSDT", "btc/usdt", "BTC/", "/USDT", "BTC/USDT:", "BTC/ USDT", "A/B/C"]
)
def test_what_is_no_symbol_is_wrong_use(symbol):
    with pytest.raises(WrongUse, match="write it like BTC/USDT"):
        unified("bitfinex").instrument_for(symbol)


def test_a_failure_of_ccxt_is_a_refusal():
    assert unified("bitfinex").parse(text(Failed("BadSymbol: x"))) == [Refused("BadSymbol: x")]


@pytest.mark.parametrize(
    "message",
    [
        b'{"channel":"trades","symbol":"BTC/USDT","data":[{"timestamp":null,"price":"1","amount":"1"}]}',
        text(Trades(BTC, [trade(price="0")])),
        text(Trades(BTC, [trade(price="nan")])),
        text(Trades(BTC, [trade(amount="inf")])),
        text(Trades(BTC, [trade(amount="-1")])),
        text(Book(BTC, MS, [("0", "1")], [])),
        text(Candles(BTC, Timeframe.M1, [(MS + 1, "1", "1", "1", "1", "1")])),
        text(Candles(BTC, Timeframe.M1, [(MS, "5", "1", "1", "1", "1")])),
        b'{"channel":"trades"',
    ],
)
def test_what_is_damaged_is_rejected_and_kept(message):
    session = Session(unified("bitfinex"), [BTC])
    session.message(message, START)
    assert session.counts.rejected == 1
    assert [rejected.raw for rejected in session.take().rejected] == [message]


MESSAGES = [
    text(Trades(BTC, [trade(id="1", side="buy"), trade(1)])),
    text(Book(BTC, MS, [("100.5", "1")], [("101", "2")], 9)),
    text(Candles(BTC, Timeframe.M1, [(MS, "1.0", "3.0", "0.5", "2.0", "7.5")])),
    text(Markets([Market(BTC, "BTCUSDT", "BTC", "USDT", tick_size="0.1")])),
    text(Opened()),
    text(Failed("x")),
]
FILLINGS = [
    b"0",
    b"9" * 20,
    b"-1",
    b"1e999",
    b"null",
    b'""',
    b"[]",
    b"{}",
    b'"',
    b",",
    b"nan",
    b'"nan"',
    b"\xff",
]


@given(data=st.data())
def test_whatever_comes_is_only_ever_damaged(data):
    message = bytearray(data.draw(st.sampled_from(MESSAGES)))
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.integers(0, len(message)))
        end = data.draw(st.integers(start, min(len(message), start + 12)))
        message[start:end] = data.draw(st.sampled_from(FILLINGS) | st.binary(max_size=4))
    try:
        found = unified("bitfinex").parse(bytes(message))
    except (MalformedMessage, WrongUse):
        return
    for event in found:
        match event:
            case TradeSeen(seen):
                assert 0 < seen.price < float("inf")
                assert 0 <= seen.trade_seq < 2**63
            case CandleSeen():
                assert 0 < event.low <= event.high < float("inf")
            case _:
                assert isinstance(event, BookReset | Heard | Refused | Unhandled)


def test_there_are_no_changes_of_a_book_and_nothing_over_rest():
    adapter = unified("bitfinex")
    assert adapter.book_sequence(BTC).follows(BookDelta(BTC, 0, [("1", "1")], [], 1, 2)) is False
    assert adapter.parse_rest("/x", b"{}") == [Unhandled("/x")]
    assert adapter.book_request(BTC) is None
    (line,) = adapter.lines([BTC])
    assert (line.symbols, line.subscribe) == ((BTC,), ())
