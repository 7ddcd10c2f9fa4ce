"""Past funding over REST: each exchange's conversation with the simulator that speaks its protocol."""

import json

import pytest
from conversation import Conversation
from hypothesis import given, settings
from hypothesis import strategies as st

from collector.exchanges import find
from collector.exchanges.adapter import MalformedMessage
from collector.simulator.funding import INTERVAL, payments
from collector.simulator.protocols import speaking
from market import DAY, FundingRate, parse_time
from storage.database import Connection
from storage.funding import write_funding

SYMBOL = "BTC/USDT:USDT"
NOW = parse_time("2026-03-01T00:05:00Z")
EXCHANGES = {"binanceusdm": 400, "bybit": 100, "okx": 89}
"""Days back that take more than one page, where the exchange gives that much."""


@pytest.fixture(scope="module", params=EXCHANGES)
def talk(request):
    """A conversation with an exchange, and what it paid, which it tells of another way."""
    conversation = Conversation(request.param, (SYMBOL,), NOW)
    market = conversation.protocol.markets[SYMBOL]
    begin = NOW // 1000 - EXCHANGES[request.param] * DAY // 1000
    return conversation, list(payments(market, begin, NOW // 1000)), market


def paid(talk, begin, end):
    pages = list(talk[0].converse(talk[0].adapter.funding_pages(SYMBOL, begin, end)))
    assert all(page == sorted(page, key=lambda rate: rate.timestamp) for page in pages)
    return pages


def test_all_of_a_long_time_comes_once(talk):
    conversation, known, market = talk
    begin = NOW - EXCHANGES[conversation.adapter.exchange] * DAY
    pages = paid(talk, begin, NOW)
    found = sorted((rate for page in pages for rate in page), key=lambda rate: rate.timestamp)
    assert len([page for page in pages if page]) > 1
    has_marks = conversation.adapter.exchange == "binanceusdm"
    assert found == [
        FundingRate(
            SYMBOL,
            each.time * 1000,
            float(each.rate_text),
            float(market.price_text(each.mark_price)) if has_marks else None,
        )
        for each in known
    ]
    assert {rate.rate > 0 for rate in found} == {True, False}
    assert [rate.timestamp % (INTERVAL * 1000) for rate in found] == [0] * len(found)


@settings(max_examples=15)
@given(begin=st.integers(0, 3 * DAY), length=st.integers(0, 2 * DAY))
def test_both_ends_are_kept_to_the_microsecond(talk, begin, length):
    begin = NOW - 4 * DAY + begin
    found = sorted(rate.timestamp for page in paid(talk, begin, begin + length) for rate in page)
    assert found == [each.time * 1000 for each in talk[1] if begin <= each.time * 1000 < begin + length]


def test_spot_and_unknown_exchanges_have_none(talk):
    adapter = talk[0].adapter
    if adapter.exchange != "binanceusdm":
        spot = find(adapter.exchange)
        assert spot.funding_pages("BTC/USDT", NOW - DAY, NOW) is None
    assert find("binance").funding_pages("BTC/USDT", NOW - DAY, NOW) is None
    assert find("coinbase").funding_pages("BTC/USD", NOW - DAY, NOW) is None


@pytest.mark.parametrize(
    ("rate", "time"), [("nan", "1"), ("--1", "1"), ("0.1e400", "1"), ("", "1"), ("0", "x")]
)
def test_what_is_no_payment_is_refused(talk, rate, time):
    conversation, _, _ = talk
    exchange = conversation.adapter.exchange
    number = int(time) if time.isdigit() else time
    answers = {
        "binanceusdm": [{"symbol": "BTCUSDT", "fundingRate": rate, "fundingTime": number, "markPrice": ""}],
        "bybit": {
            "retCode": 0,
            "retMsg": "OK",
            "result": {"list": [{"fundingRate": rate, "fundingRateTimestamp": time}]},
            "time": 1,
        },
        "okx": {"code": "0", "msg": "", "data": [{"realizedRate": rate, "fundingTime": time}]},
    }
    asking = conversation.adapter.funding_pages(SYMBOL, NOW - DAY, NOW)
    next(asking)
    with pytest.raises(MalformedMessage):
        asking.send(json.dumps(answers[exchange]).encode())


def test_payments_are_written_once_and_corrected(connection: Connection):
    market = speaking("binanceusdm", (SYMBOL,), 7).markets[SYMBOL]
    rates = [
        FundingRate(SYMBOL, each.time * 1000, each.rate / 1e8, None)
        for each in payments(market, NOW // 1000 - DAY // 1000, NOW // 1000)
    ]
    assert [write_funding(connection, "binanceusdm", rates) for _ in range(2)] == [3, 0]
    assert write_funding(connection, "binanceusdm", [FundingRate(SYMBOL, rates[0].timestamp, 0.5, 7.0)]) == 1
    assert write_funding(connection, "binanceusdm", []) == 0
    rows = connection.execute("SELECT rate, mark_price FROM funding_rates ORDER BY timestamp").fetchall()
    assert rows == [(0.5, 7.0), *((rate.rate, None) for rate in rates[1:])]
