"""The channel to a chat, through the real library, against a local server that speaks the Bot API."""

import logging
from collections.abc import Iterator
from typing import Any

import pytest

from alerts.channels.telegram import TelegramChannel, text
from alerts.plan import Failure
from alerts.telegram.markup import MOST_CAPTION, MOST_TEXT
from market.timeframe import MICROSECONDS
from storage.outbox import Alert
from tests.alerts import bot_calls as server
from tests.alerts.bot_api import TOKEN, BotApi, bot_api
from tests.alerts.bot_calls import Fault
from tests.alerts.bot_words import seen
from tests.alerts.test_console import alert

CHAT = 77
PICTURE = b"\x89PNG\r\n\x1a\n" + b"0" * 100


@pytest.fixture
def api() -> Iterator[BotApi]:
    with bot_api() as running:
        yield running


@pytest.fixture
def channel(api: BotApi) -> Iterator[TelegramChannel]:
    made = TelegramChannel(TOKEN, CHAT, api.address)
    yield made
    made.close()


def only(api: BotApi) -> server.Message:
    (message,) = api.messages.values()
    return message


def test_a_signal_comes_with_its_reasons_and_their_numbers(api: BotApi, channel: TelegramChannel) -> None:
    assert channel.send([alert()]) is None
    message = only(api)
    assert message.chat == CHAT
    assert message.plain.splitlines() == [
        "🟢🟢 STRONG BUY BTC/USDT 1m on binance at 61,234.5",
        "composite: score +0.62, confidence 62 (LOW)",
        "• RSI(14) = 27.3 < 30 [+0.20]",
        "CVD of the day -12.5",
        "! thin volume: 0.10 times",
        "2027-01-15T08:00:00Z · signal_generated · alert 7",
    ]


def test_nothing_that_comes_from_data_is_markup(api: BotApi, channel: TelegramChannel) -> None:
    nasty = '<b>bold</b> & </b><a href="https://evil.example">x</a> @everyone\u202e'
    payload = {"reasons": [nasty], "warnings": [nasty]}
    assert channel.send([alert(title=nasty, message=nasty, payload=payload)]) is None
    assert only(api).plain.count("<b>bold</b> & </b><a href=") == 4
    assert channel.send([alert(id=1, title=nasty), alert(id=2, title=nasty)]) is None


@pytest.mark.parametrize("most", [MOST_TEXT, MOST_CAPTION])
def test_texts_stay_within_what_telegram_takes(most: int) -> None:
    long = "🟢<&>" * 2_000
    shown = text([alert(message=long, payload={"reasons": [long] * 100})], most)
    assert len(shown.encode("utf-16-le")) // 2 <= most
    assert len(seen(shown)) > 0
    digest = text([alert(id=number, title=long) for number in range(1_000)], most)
    assert len(digest.encode("utf-16-le")) // 2 <= most
    assert "1,000 alerts" in digest


def test_a_thousand_are_one_message(api: BotApi, channel: TelegramChannel) -> None:
    many = [alert(id=number, severity="critical" if number == 900 else "info") for number in range(1, 1_001)]
    assert channel.send(many) is None
    shown = only(api).plain.splitlines()
    assert shown[0] == "1,000 alerts, 1 critical"
    assert "and 950 more: deltatape alerts list" in shown


def test_a_picture_is_put_to_the_text_that_has_arrived(api: BotApi) -> None:
    channel = TelegramChannel(TOKEN, CHAT, api.address, lambda _: PICTURE)
    assert channel.send([alert()]) is None
    assert only(api).photo is None
    text_alone = only(api).plain
    assert channel.add_picture([alert()])
    assert (only(api).photo, only(api).plain) == (PICTURE, text_alone)
    channel.close()


def test_a_text_that_is_too_long_for_a_caption_keeps_all_its_lines(api: BotApi) -> None:
    channel = TelegramChannel(TOKEN, CHAT, api.address, lambda _: PICTURE)
    long = alert(payload={"reasons": [f"reason {number} = {number}.5" for number in range(100)]})
    assert channel.send([long]) is None
    assert channel.add_picture([long])
    message, picture = api.messages.values()
    assert "reason 99 = 99.5" in message.plain
    assert (message.photo, picture.photo, picture.plain) == (None, PICTURE, "")
    channel.close()


def test_what_has_no_picture_makes_no_other_call(api: BotApi, channel: TelegramChannel) -> None:
    assert channel.send([alert()]) is None
    assert not channel.add_picture([alert()])
    none = TelegramChannel(TOKEN, CHAT, api.address, lambda _: None)
    assert not none.add_picture([alert()])
    assert none.send([alert()]) is None
    assert not none.add_picture([alert()])
    assert none.send([alert(), alert(id=8)]) is None
    assert not none.add_picture([alert(), alert(id=8)])
    none.close()
    assert len(api.calls) == 3


def test_a_picture_that_cannot_be_drawn_is_logged(api: BotApi, caplog: pytest.LogCaptureFixture) -> None:
    def fail(_: Alert) -> bytes:
        raise RuntimeError("no candles")

    channel = TelegramChannel(TOKEN, CHAT, api.address, fail)
    assert channel.send([alert()]) is None
    assert not channel.add_picture([alert()])
    assert "alert 7 stays without a picture: no candles" in caplog.text
    channel.close()


def test_a_picture_that_telegram_refuses_is_logged(api: BotApi, caplog: pytest.LogCaptureFixture) -> None:
    channel = TelegramChannel(TOKEN, CHAT, api.address, lambda _: b"no picture")
    assert channel.send([alert()]) is None
    assert channel.add_picture([alert()])
    assert "alert 7 stays without its picture: Telegram: BadRequest" in caplog.text
    assert only(api).photo is None
    channel.close()


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (server.too_many(7), {"retry_after": 7 * MICROSECONDS}),
        (server.broken(), {"is_answer_lost": True}),
        (server.refused(500, "Internal Server Error"), {}),
        (server.BLOCKED, {"is_permanent": True}),
        (server.refused(400, "Bad Request: chat not found"), {"is_permanent": True}),
        (server.refused(401, "Unauthorized"), {}),
        (server.NOT_TAKEN, {"is_answer_lost": True}),
        (server.ANSWER_LOST, {"is_answer_lost": True}),
        (server.MALFORMED, {"is_answer_lost": True}),
    ],
)
def test_failures_say_what_is_to_be_done(
    api: BotApi, channel: TelegramChannel, fault: Fault, expected: dict[str, Any]
) -> None:
    api.fail("sendMessage", fault)
    failure = channel.send([alert()])
    assert failure is not None
    wanted = Failure(failure.reason, **expected)
    assert failure == wanted
    assert channel.send([alert()]) is None


def test_a_server_that_is_out_of_reach_has_taken_nothing() -> None:
    channel = TelegramChannel(TOKEN, CHAT, "http://127.0.0.1:9")
    failure = channel.send([alert()])
    assert failure is not None
    assert not failure.is_answer_lost
    assert TOKEN not in failure.reason
    channel.close()


def test_an_answer_that_never_comes_is_lost(api: BotApi, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("alerts.channels.telegram.CALL_SECONDS", 0.5)
    channel = TelegramChannel(TOKEN, CHAT, api.address)
    api.fail("sendMessage", server.ANSWER_LATE)
    failure = channel.send([alert()])
    assert failure is not None
    assert failure.is_answer_lost
    assert len(api.messages) == 1
    channel.close()


def test_the_token_stands_in_no_log_and_no_error(api: BotApi, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    channel = TelegramChannel(TOKEN, CHAT, api.address, lambda _: PICTURE)
    faults = (
        server.too_many(1),
        server.broken(),
        server.refused(400, f"Bad Request: /bot{TOKEN}/sendPhoto"),
        server.BLOCKED,
        server.refused(404, "Not Found"),
        server.NOT_TAKEN,
        server.MALFORMED,
    )
    api.fail("sendMessage", *faults)
    reasons = [str(channel.send([alert(id=number)])) for number in range(len(faults) + 1)]
    api.fail("editMessageMedia", *faults)
    for _ in faults:
        channel.add_picture([alert()])
    channel.close()
    stranger = TelegramChannel(TOKEN, CHAT, "http://127.0.0.1:9/nowhere")
    reasons.append(str(stranger.send([alert()])))
    stranger.close()
    assert len(api.called("sendMessage")) == len(faults) + 1
    assert len(api.called("editMessageMedia")) == len(faults)
    assert TOKEN not in "".join(reasons)
    said = "".join(str(record.__dict__) for record in caplog.records) + caplog.text
    assert TOKEN not in said
    assert TOKEN.split(":")[1] not in said
