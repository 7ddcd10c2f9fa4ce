"""Lines, questions, and what the words of a line mean."""

from datetime import UTC, datetime

import pytest

from alerts.telegram.access import Access
from alerts.telegram.answering import LONGEST_LINE, Line, question
from alerts.telegram.asked import matching
from alerts.telegram.markup import Reply
from alerts.telegram.views.money import first_of
from market import WrongUse

KNOWN = [("binance", "BTC/USDT"), ("binance", "BTC/USDT:USDT"), ("kraken", "BTC/USD"), ("okx", "BTC/USDT")]


def test_a_line_is_a_name_and_words():
    assert Line.parse("/Price  btc usd") == Line.parse("price btc usd") == Line("price", ("btc", "usd"))
    assert str(Line("price", ("btc",))) == "price btc"
    assert Line.parse("") is Line.parse("/") is Line.parse("/a " + "x" * LONGEST_LINE) is None


def test_a_question_that_no_button_can_carry_is_none():
    first, second = question(Reply("?"), Line("mute", ("2h",)), 1_800_000_000).buttons[0]
    assert (first.data, second.data) == ("!1800000000:mute 2h", "x")
    with pytest.raises(WrongUse, match="too long for a button"):
        question(Reply("?"), Line("mute", ("x" * 60,)), 1_800_000_000)


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("BTC/USDT", ["binance BTC/USDT", "okx BTC/USDT"]),
        ("btcusdt", ["binance BTC/USDT", "okx BTC/USDT"]),
        ("btc-usd", ["kraken BTC/USD"]),
        ("btc", ["binance BTC/USDT", "binance BTC/USDT:USDT", "kraken BTC/USD", "okx BTC/USDT"]),
        ("Kraken btc", ["kraken BTC/USD"]),
        ("binance BTC/USDT:USDT", ["binance BTC/USDT:USDT"]),
    ],
)
def test_an_instrument_may_be_written_in_many_ways(words, found):
    assert [" ".join(market) for market in matching(KNOWN, tuple(words.split()))] == found


@pytest.mark.parametrize("words", ["doge", "okx btc/usd", "kraken btc usd", "/", "bybit BTC/USDT"])
def test_an_instrument_that_is_not_there_is_said_to_be(words):
    with pytest.raises(WrongUse, match=r"there are: binance BTC/USDT, "):
        matching(KNOWN, tuple(words.split()))


def test_strangers_are_counted_once_each():
    access = Access(frozenset({1}))
    assert [access.is_allowed(user) for user in (1, 2, 2, None)] == [True, False, False, False]
    assert access.note() == "strangers: 3 attempts of 1 person, none answered"


def test_periods_begin_where_calendars_say():
    now = datetime(2026, 3, 4, 15, tzinfo=UTC)
    assert first_of(now, "day", 7) == datetime(2026, 2, 26, tzinfo=UTC)
    assert first_of(now, "week", 2) == datetime(2026, 2, 23, tzinfo=UTC)
    assert first_of(now, "month", 4) == datetime(2025, 12, 1, tzinfo=UTC)
    assert first_of(now, "month", 3) == datetime(2026, 1, 1, tzinfo=UTC)
