import json
from decimal import Decimal
from itertools import pairwise
from urllib.parse import parse_qs, urlsplit
from zlib import crc32

import msgspec
import pytest
from dialects import learned
from hypothesis import assume, given
from hypothesis import strategies as st

from collector.exchanges import find
from collector.exchanges.adapter import MalformedMessage, RestRequest, TradeRange
from collector.exchanges.events import (
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
from collector.exchanges.okx_book import OkxBook, book_checksum
from collector.exchanges.okx_messages import in_base, in_contracts
from market import MarketType, OrderBook, Side, Timeframe, Trade, WrongUse
from market.timeframe import DAY

TIME = 1_700_000_000_123
LISTED = {
    "SPOT": [
        {"instId": "BTC-USDT", "instType": "SPOT", "baseCcy": "BTC", "quoteCcy": "USDT", "tickSz": "0.1"},
    ],
    "SWAP": [
        {"instId": "BTC-USDT-SWAP", "uly": "BTC-USDT", "settleCcy": "USDT", "ctVal": "0.01", "ctMult": "1"},
        {"instId": "UNI-USD-SWAP", "uly": "UNI-USD", "settleCcy": "UNI", "ctVal": "10", "ctMult": "1"},
        {"instId": "ODD-USDT-SWAP", "uly": "", "settleCcy": "USDT", "ctVal": "1", "ctMult": "1"},
        {"instId": "NEW-USDT-SWAP", "uly": "NEW-USDT", "settleCcy": "USDT", "ctVal": "", "ctMult": ""},
    ],
    "FUTURES": [
        {"instId": "BTC-USD-220527", "uly": "BTC-USD", "settleCcy": "BTC", "ctVal": "100", "ctMult": "1"},
    ],
}


def answer(rows):
    return json.dumps({"code": "0", "msg": "", "data": rows}).encode()


def knowing():
    """An adapter that has read the lists."""
    known = find("okx")
    for request in known.instruments_requests():
        (kind,) = parse_qs(urlsplit(request.path).query)["instType"]
        rows = [
            {
                "instType": kind,
                "state": "live",
                "tickSz": "1",
                "lotSz": "1",
                "ctType": "linear" if row.get("settleCcy") == "USDT" else "inverse",
                "expTime": "1653638400000" if kind == "FUTURES" else "",
                **row,
            }
            for row in LISTED[kind]
        ]
        known.add_instruments(known.parse_rest(request.path, answer(rows)))
    return known


def said(channel, *rows, name="BTC-USDT", **more):
    return json.dumps({"arg": {"channel": channel, "instId": name}, **more, "data": rows}).encode()


def fill(number=7, size="0.5", time=TIME, side="sell", **more):
    return {
        "instId": "X",
        "tradeId": str(number),
        "px": "42219.9",
        "sz": size,
        "side": side,
        "ts": str(time),
        **more,
    }


def trade(number=7, size=0.5, symbol="BTC/USDT", side=Side.SELL):
    return Trade(symbol, TIME * 1000, str(number), number, 42219.9, size, side)


@pytest.mark.parametrize("channel", ["trades", "trades-all"])
def test_every_fill_of_a_message_is_a_trade_in_the_order_of_ids(channel):
    assert find("okx").parse(said(channel, fill(8, side="buy"), fill(7, count="1"))) == [
        TradeSeen(trade(7)),
        TradeSeen(trade(8, side=Side.BUY)),
    ]


def test_merged_fills_are_heard_and_not_stored(shared_data):
    assert find("okx").parse(said("trades", fill(9, count="3"))) == [
        Heard("trades", "BTC/USDT", TIME * 1000, 9)
    ]
    sample = (shared_data / "messages/okx/ws_trades.json").read_bytes()
    assert find("okx").parse(sample) == [Heard("trades", "BTC/USD", 1_630_048_897_897_000, 130639474)]


def test_no_sample_is_unknown(shared_data):
    for path in sorted((shared_data / "messages/okx").glob("ws_*.json")):
        found = find("okx").parse(path.read_bytes())
        assert not any(isinstance(event, Unhandled) for event in found)


# Contracts


def test_sizes_are_in_base_units_for_linear_contracts_and_in_contracts_for_inverse_ones():
    known = knowing()
    for name, symbol, size in (
        ("BTC-USDT-SWAP", "BTC/USDT:USDT", 0.125),
        ("UNI-USD-SWAP", "UNI/USD:UNI", 12.5),
        ("BTC-USD-220527", "BTC/USD:BTC-220527", 12.5),
        ("BTC-USDT", "BTC/USDT", 12.5),
    ):
        assert known.parse(said("trades-all", fill(7, "12.5"), name=name)) == [
            TradeSeen(trade(7, size, symbol))
        ]
    bar = [str(TIME // 60_000 * 60_000), "1", "2", "1", "2", "30", "0.3", "5", "1"]
    assert [known.parse(said("candle1m", bar, name=n))[0].volume for n in ("BTC-USDT-SWAP", "BTC-USDT")] == [
        0.3,
        30.0,
    ]


def test_the_list_says_what_a_derivative_is():
    known = knowing()
    linear, inverse, dated = (
        known.instrument_for(s) for s in ("BTC/USDT:USDT", "UNI/USD:UNI", "BTC/USD:BTC-220527")
    )
    assert (linear.market_type, linear.contract_size) == (MarketType.LINEAR, "0.01")
    assert (inverse.market_type, inverse.contract_size) == (MarketType.INVERSE, "10")
    assert dated.expiry_timestamp == 1_653_638_400_000_000
    assert (dated.base, dated.quote, dated.exchange_symbol) == ("BTC", "USD", "BTC-USD-220527")
    # One without an underlying, one without the size of its contract: nobody could store them.
    for name in ("ODD-USDT-SWAP", "NEW-USDT-SWAP"):
        with pytest.raises(WrongUse, match="cannot resolve"):
            known.instrument_of(name)


def test_without_the_list_a_derivative_cannot_be_resolved():
    with pytest.raises(WrongUse, match="cannot resolve the symbol 'BTC-USDT-SWAP'"):
        find("okx").parse(said("trades-all", fill(), name="BTC-USDT-SWAP"))
    with pytest.raises(WrongUse, match="okx did not give its list, which has the contract of BTC/USDT:USDT"):
        find("okx").instrument_for("BTC/USDT:USDT")
    with pytest.raises(WrongUse, match="okx does not list ETH/USDT:USDT"):
        knowing().instrument_for("ETH/USDT:USDT")


@pytest.mark.parametrize(
    "error", [{"code": "50011", "msg": "Too Many Requests", "data": []}, {"code": "0"}, {}]
)
def test_an_answer_that_is_an_error_is_damaged(error):
    path = find("okx").instruments_requests()[0].path
    with pytest.raises(MalformedMessage, match=error.get("msg", "0|code")):
        find("okx").parse_rest(path, json.dumps(error))


DECIMALS = st.from_regex(r"(0|[1-9][0-9]{0,9})(\.[0-9]{1,12})?", fullmatch=True)
SIZES = st.from_regex(r"([1-9][0-9]{0,5})|(0\.0{0,8}[1-9][0-9]{0,4})", fullmatch=True)


@given(size=DECIMALS, contract=SIZES)
def test_contracts_times_their_size_is_exact_and_can_be_undone(size, contract):
    base = in_base(size, contract)
    assert Decimal(base) == Decimal(size) * Decimal(contract)
    assert in_contracts(base, contract) == size
    assert in_base(size, None) == in_contracts(size, None) == size


@pytest.mark.parametrize("size", ["", "1_0", " 1", "nan", "-1", "1e999", "Infinity", "1" * 400])
def test_a_size_that_is_no_number_of_contracts_is_damaged(size):
    with pytest.raises(MalformedMessage):
        knowing().parse(said("trades-all", fill(7, size), name="BTC-USDT-SWAP"))
    levels = {"asks": [["1", size]], "bids": [], "ts": str(TIME)}
    with pytest.raises(MalformedMessage):
        knowing().parse(said("books", levels, name="BTC-USDT-SWAP", action="update"))


# The book


def book(sequence=None, previous=None, checksum=None, time=TIME, asks=(), bids=()):
    found = {"asks": list(asks), "bids": list(bids), "ts": str(time)}
    named = {"seqId": sequence, "prevSeqId": previous, "checksum": checksum}
    return {**found, **{name: value for name, value in named.items() if value is not None}}


def test_levels_and_ids_and_checksums_are_read():
    asks, bids = [["8476.98", "415", "0", "13"]], [["8476.97", "256.0", "0", "12"]]
    whole = book(10, -1, -855196043, asks=asks, bids=bids)
    assert find("okx").parse(said("books", whole, action="snapshot")) == [
        BookReset(
            "BTC/USDT", TIME * 1000, [("8476.97", "256.0")], [("8476.98", "415")], 10, checksum="-855196043"
        )
    ]
    for checksum in (0, None):
        (delta,) = find("okx").parse(said("books", book(11, 10, checksum, asks=asks), action="update"))
        assert delta == BookDelta("BTC/USDT", TIME * 1000, [], [("8476.98", "415")], 10, 11, None)


def delta(previous, sequence, time=1):
    return BookDelta("BTC/USDT", TIME + time, [], [], previous, sequence)


def test_a_change_names_the_one_before():
    check = OkxBook(None)
    assert check.follows(delta(10, 11)) is False
    check.reset(BookReset("BTC/USDT", TIME, [], [], 10))
    assert check.follows(delta(10, 11)) is True
    # Nothing changed for a minute; then maintenance, after which ids begin lower.
    assert check.follows(delta(11, 11, 2)) is True
    assert check.follows(delta(11, 3, 3)) is True
    assert check.follows(delta(3, 5, 4)) is True
    # One of before, again; one that is missing something; one that does, after ids began lower.
    assert check.follows(delta(3, 5, 4)) is None
    assert check.follows(delta(6, 8, 5)) is False
    assert check.follows(delta(1, 2, 5)) is False


def test_without_ids_every_change_follows_a_whole_book():
    check = OkxBook(None)
    check.reset(BookReset("BTC/USDT", TIME, [], []))
    assert check.follows(delta(None, None)) is True


def test_the_checksum_takes_bids_and_asks_by_turns_then_the_longer_side():
    bids = [(f"{100 - n}", f"{n}.50") for n in range(30)][1:]
    asks = [("101", "1"), ("102.0", "2")]
    whole = OrderBook()
    whole.replace(bids, asks)
    head = "99:1.50:101:1:98:2.50:102.0:2:"
    expected = crc32((head + ":".join(f"{p}:{s}" for p, s in bids[2:25])).encode())
    assert book_checksum(whole) % 2**32 == expected
    assert -(2**31) <= book_checksum(whole) < 2**31


def test_the_checksum_of_a_linear_contract_is_over_the_contracts_as_sent():
    known = knowing()
    rows = [["100.5", "12", "0", "1"], ["100.4", "7.0", "0", "1"]]
    (reset,) = known.parse(said("books", book(bids=rows), name="BTC-USDT-SWAP", action="snapshot"))
    assert [size for _, size in reset.bids] == ["0.12", "0.070"]
    whole = OrderBook()
    whole.replace(reset.bids, reset.asks)
    unsigned = crc32(b"100.5:12:100.4:7.0")
    signed = unsigned - 2**32 if unsigned >= 2**31 else unsigned
    check = known.book_sequence("BTC/USDT:USDT")
    assert check.check(msgspec.structs.replace(reset, checksum=str(signed)), whole) is True
    assert check.check(msgspec.structs.replace(reset, checksum=str(signed ^ 1)), whole) is False
    assert check.check(reset, whole) is None


# Other messages


def test_a_candle_says_whether_it_is_closed():
    bar = ["1699999980000", "10.5", "11", "10.1", "10.7", "3.5", "37", "37", "1"]
    (candle,) = find("okx").parse(said("candle1m", bar))
    assert candle == CandleSeen(
        symbol="BTC/USDT",
        timestamp=None,
        timeframe=Timeframe.M1,
        open_time=1_699_999_980_000_000,
        open=10.5,
        high=11.0,
        low=10.1,
        close=10.7,
        volume=3.5,
        buy_volume=None,
        trade_count=None,
        is_closed=True,
    )
    for other in ([*bar[:8], "0"], bar[:7]):
        assert not find("okx").parse(said("candle1m", other))[0].is_closed
    assert find("okx").parse(said("candle1D", bar)) == [Heard("candle1D", "BTC/USDT")]


@pytest.mark.parametrize(
    ("message", "event"),
    [
        (b"pong", Heard("pong")),
        ("pong", Heard("pong")),
        (b'{"event":"unsubscribe","arg":{"channel":"books","instId":"BTC-USDT"}}', Heard("unsubscribe")),
        (
            b'{"event":"subscribe","arg":{"channel":"trades-all","instId":"BTC-USDT"}}',
            Subscribed("trades-all", ("BTC/USDT",)),
        ),
        (b'{"event":"error","code":"60018","msg":"no such channel"}', Refused("60018: no such channel")),
        (b'{"event":"notice","code":"64008","msg":"soon"}', Closing("soon")),
        (b'{"event":"notice","code":"1","msg":"hello"}', Heard("notice")),
        (b'{"event":"channel-conn-count","channel":"books","connCount":"1"}', Heard("channel-conn-count")),
        (b'{"event":"login","code":"0"}', Unhandled("login")),
        (said("tickers", {}), Heard("tickers")),
        (said("books5", {}), Heard("books5")),
        (said("new-channel", {}), Unhandled("new-channel")),
        (said("books", {}), Unhandled("books")),
        (b"{}", Unhandled("neither event nor arg and data")),
        (b"[]", Unhandled("a list")),
    ],
)
def test_other_messages(message, event):
    assert find("okx").parse(message) == [event]


@pytest.mark.parametrize(
    "wrong",
    [
        {"px": 42219.9},
        {"px": "0"},
        {"px": "1e-300"},
        {"sz": "-1"},
        {"side": "hold"},
        {"tradeId": "7a"},
        {"tradeId": ""},
        {"tradeId": "9223372036854775808"},
        {"ts": "1700000000.5"},
        {"ts": "999999999999999"},
        {"count": "x"},
    ],
)
def test_a_trade_that_cannot_be_is_damaged(wrong):
    with pytest.raises(MalformedMessage):
        find("okx").parse(said("trades-all", {**fill(), **wrong}))


def test_requests():
    known = find("okx")
    public, business = known.lines(["BTC/USDT", "ETH/USDT"])
    assert (public.path, business.path) == ("/ws/v5/public", "/ws/v5/business")
    assert (public.streams, business.streams) == ({"book"}, {"trades", "candles"})
    arguments = [
        [(each["channel"], each["instId"]) for each in msgspec.json.decode(text)["args"]]
        for line in (public, business)
        for text in line.subscribe
    ]
    names = ("BTC-USDT", "ETH-USDT")
    assert arguments == [
        [("books", name) for name in names],
        [(channel, name) for channel in ("trades-all", "candle1m") for name in names],
    ]
    assert [msgspec.json.decode(text)["op"] for text in known.resubscribe_book("BTC/USDT")] == [
        "unsubscribe",
        "subscribe",
    ]
    assert known.keep_alive() == (20.0, "ping")


def test_the_recorded_lists_are_read(shared_data):
    known = learned(shared_data, "okx")
    kinds = [instrument.market_type for instrument in known.instruments]
    assert [kinds.count(kind) for kind in ("spot", "linear", "inverse")] == [513, 178, 92]
    assert known.instrument_for("UNI/USD:UNI").exchange_symbol == "UNI-USD-SWAP"


# The past


def conversation(pages, respond):
    """Every page, and the paths that were asked for."""
    found, asked = [], []
    step = next(pages, None)
    while step is not None:
        assert len(asked) < 100
        if isinstance(step, RestRequest):
            asked.append(step.path)
            query = {name: values[0] for name, values in parse_qs(urlsplit(step.path).query).items()}
            try:
                step = pages.send(answer(respond(query)))
            except StopIteration:
                break
        else:
            found.append(step)
            step = next(pages, None)
    return found, asked


TAPE = [(number, TIME + number // 3) for number in range(1, 401) if number not in (150, 151, 300)]
"""Id and time of past trades, three of a time; some ids were never given."""


def past(query):
    assert query["instId"] == "BTC-USDT"
    at = 0 if query["type"] == "1" else 1
    found = [row for row in TAPE if row[at] < int(query["after"])][-min(int(query["limit"]), 100) :]
    return [fill(number, time=time) for number, time in reversed(found)]


@given(first=st.integers(1, 400), length=st.integers(0, 399))
def test_a_hole_is_proven_from_end_to_end(first, length):
    last = min(first + length, 399)
    # A hole ends before a trade that came.
    assume(last + 1 in {number for number, _ in TAPE})
    wanted = TradeRange(symbol="BTC/USDT", begin=0, end=2**60, first_id=min(first, last), last_id=last)
    pages, asked = conversation(find("okx").trade_pages(wanted), past)
    assert asked[0].endswith(f"type=1&after={last + 2}&limit=100")
    got = {each.trade_seq for page in pages for each in page.trades}
    assert got >= {number for number, _ in TAPE if wanted.first_id <= number <= last}
    assert max(page.last_id for page in pages) >= last
    assert min(page.first_id for page in pages) <= wanted.first_id
    for newer, older in pairwise(pages):
        assert older.last_id == newer.first_id - 1
        assert older.to_timestamp == newer.from_timestamp
    for page in pages:
        assert [each.order for each in page.trades] == sorted(each.order for each in page.trades)
        assert all(page.from_timestamp <= each.timestamp <= page.to_timestamp for each in page.trades)


def test_by_time_the_first_question_is_of_time_and_the_others_of_ids():
    begin, end = (TIME + 20) * 1000, (TIME + 90) * 1000
    pages, asked = conversation(
        find("okx").trade_pages(TradeRange(symbol="BTC/USDT", begin=begin, end=end)), past
    )
    assert f"type=2&after={TIME + 90}" in asked[0]
    assert all("type=1" in path for path in asked[1:])
    got = [each.trade_seq for page in pages for each in page.trades if each.timestamp >= begin]
    assert sorted(got) == [number for number, time in TAPE if TIME + 20 <= time < TIME + 90]
    assert (min(page.from_timestamp for page in pages), pages[0].to_timestamp) == (begin, end)


def test_where_the_exchange_has_no_more_nothing_is_proven():
    wanted = TradeRange(symbol="BTC/USDT", begin=0, end=2**60, first_id=1, last_id=399)
    pages, _ = conversation(
        find("okx").trade_pages(wanted),
        lambda query: [row for row in past(query) if int(row["tradeId"]) > 250],
    )
    assert min(page.first_id for page in pages) == 251
    assert sorted(each.trade_seq for page in pages for each in page.trades)[0] == 251
    assert conversation(find("okx").trade_pages(wanted), lambda _: [])[0] == []


def test_an_exchange_that_repeats_itself_ends_the_conversation():
    wanted = TradeRange(symbol="BTC/USDT", begin=0, end=2**60, first_id=1, last_id=399)
    _, asked = conversation(find("okx").trade_pages(wanted), lambda _: [fill(390), fill(389)])
    assert len(asked) == 2


def test_a_past_trade_is_the_row_that_came_over_the_websocket(shared_data):
    body = (shared_data / "messages/okx/http_get_trades.json").read_bytes()
    rows = json.loads(body)["data"]
    heard = [event.trade for event in find("okx").parse(said("trades-all", *rows))]
    wanted = TradeRange(
        symbol="BTC/USDT", begin=0, end=2**60, first_id=heard[0].trade_seq, last_id=heard[1].trade_seq
    )
    pages, _ = conversation(find("okx").trade_pages(wanted), lambda _: rows)
    assert sorted((each for page in pages for each in page.trades), key=lambda each: each.order) == heard


def test_past_candles_come_in_windows_and_closed():
    minute = 60_000
    begin = TIME // minute * minute

    def respond(query):
        assert query["bar"] == "1m"
        opens = range(int(query["before"]) + 1, int(query["after"]), minute)
        assert len(opens) <= 300
        return [
            [str(t), "1", "2", "1", "2", "3", "4", "5", str(int(t < begin + 700 * minute))]
            for t in reversed(opens)
        ]

    asking = find("okx").candle_pages(
        "BTC/USDT", Timeframe.M1, begin * 1000 - 5, (begin + 701 * minute) * 1000
    )
    pages, asked = conversation(asking, respond)
    assert len(asked) == 3
    assert [candle.open_time for page in pages for candle in page] == [
        (begin + number * minute) * 1000 for number in range(700)
    ]
    days = find("okx").candle_pages("BTC/USDT", Timeframe.D1, 0, DAY)
    assert "bar=1Dutc" in next(days).path
