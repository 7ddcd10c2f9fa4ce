"""The bot and the net: calls that fail, a webhook, a second instance, and the token, which nobody sees."""

import json
import logging
import threading
from urllib.error import HTTPError
from urllib.request import ProxyHandler, Request, build_opener

import pytest
from bot_api import TOKEN, bot_api
from talking import ALICE, BOB, talking

from alerts.telegram.polling import SECOND
from alerts.telegram.run import REFUSED, BotOptions, run
from market import Unavailable, WrongUse
from tests.alerts.bot_calls import ANSWER_LOST, BLOCKED, MALFORMED, NOT_TAKEN, TIMED_OUT, broken, too_many

SECRET = TOKEN.partition(":")[2]
NOWHERE = "postgresql://127.0.0.1:1/none"
direct = build_opener(ProxyHandler({}))


def stranger(address, token=TOKEN):
    """A bot that nobody may ask."""
    return BotOptions(token=token, users=frozenset(), api_url=address)


@pytest.mark.parametrize("fault", [too_many(1), broken(), NOT_TAKEN, ANSWER_LOST, TIMED_OUT], ids=repr)
def test_an_answer_that_failed_is_given_again(fault):
    # Long enough for every call that is answered, however slow the machine.
    with talking(NOWHERE, call_seconds=8.0) as talk:
        talk.api.fail("sendMessage", fault)
        assert "does not answer" in talk.ask("/status").plain
        assert [call.status for call in talk.api.called("sendMessage")][-1] == 200


@pytest.mark.parametrize("fault", [BLOCKED, MALFORMED], ids=repr)
def test_an_answer_that_cannot_be_given_ends_nothing(fault):
    with talking(NOWHERE) as talk:
        talk.api.fail("sendMessage", fault)
        talk.api.say("/status", ALICE)
        talk.api.wait_for("sendMessage")
        assert "does not answer" in talk.ask("/status", BOB).plain


def test_polling_goes_on_after_every_failure():
    with talking(NOWHERE) as talk:
        talk.api.fail("getUpdates", broken(), MALFORMED, too_many(1), NOT_TAKEN)
        for user in (ALICE, BOB):
            assert "does not answer" in talk.ask("/status", user).plain


def test_updates_are_taken_once():
    with talking(NOWHERE) as talk:
        talk.ask("/version")
        api = talk.api
    # At its end it says how far it got, without waiting for more.
    last = api.called("getUpdates")[-1].params
    assert (int(last["timeout"]), int(last["offset"]) > 0) == (0, True)


def test_a_webhook_brings_what_has_the_secret():
    with bot_api() as probe:
        port = int(probe.address.rpartition(":")[2])
    listen = f"127.0.0.1:{port}"
    url = f"http://{listen}/tape"
    with talking(NOWHERE, webhook_url=url, webhook_listen=listen) as talk:
        talk.api.wait(lambda: talk.api.webhook)
        assert "does not answer" in talk.ask("/status").plain
        assert talk.api.called("getUpdates") == []
        for headers, body, status in (
            ({}, b"{}", 403),
            ({"X-Telegram-Bot-Api-Secret-Token": "wrong"}, b"{}", 403),
            ({"X-Telegram-Bot-Api-Secret-Token": talk.api.webhook["secret_token"]}, b"{", 503),
            (
                {"X-Telegram-Bot-Api-Secret-Token": talk.api.webhook["secret_token"]},
                b'{"update_id": {}}',
                200,
            ),
        ):
            assert post(url, headers, body) == status
        assert "does not answer" in talk.ask("/status", BOB).plain
        assert set(talk.api.pushes) == {200}


def post(url, headers, body):
    try:
        with direct.open(Request(url, body, headers), timeout=60) as answer:
            return answer.status
    except HTTPError as error:
        return error.code


def test_who_comes_second_leaves_and_the_first_goes_on():
    with talking(NOWHERE) as talk:
        talk.ask("/version")
        with pytest.raises(Unavailable) as raised:
            run(NOWHERE, stranger(talk.api.address), threading.Event())
        assert str(raised.value) == SECOND
        assert "does not answer" in talk.ask("/status", BOB).plain


def test_a_bot_that_nobody_has_asked_anything_is_no_second_one(monkeypatch):
    monkeypatch.setattr("alerts.telegram.polling.FIRST_SECONDS", 0)
    with talking(NOWHERE) as talk:
        # Its first call is over.
        talk.api.wait(lambda: talk.api.polls >= 2)
        monkeypatch.setattr("alerts.telegram.polling.FIRST_SECONDS", 60)
        with pytest.raises(Unavailable):
            run(NOWHERE, stranger(talk.api.address), threading.Event())
        assert "does not answer" in talk.ask("/status").plain


def test_a_token_that_is_not_known_is_wrong_use():
    with bot_api() as api, pytest.raises(WrongUse) as raised:
        run(NOWHERE, stranger(api.address, "4242:AAanother"), threading.Event())
    assert str(raised.value) == REFUSED
    assert raised.value.__cause__ is None


def test_telegram_that_is_away_is_unavailable():
    with pytest.raises(Unavailable, match=r"^Telegram at 127\.0\.0\.1: ") as raised:
        run(NOWHERE, stranger("http://127.0.0.1:1"), threading.Event())
    assert SECRET not in str(raised.value)


def test_the_token_stands_in_no_log(caplog):
    caplog.set_level(logging.DEBUG)
    for name in list(logging.root.manager.loggerDict):
        if name.startswith("telegram"):
            caplog.set_level(logging.DEBUG, name)
    with talking(NOWHERE) as talk:
        talk.api.fail("getUpdates", broken(), NOT_TAKEN)
        talk.api.fail("sendMessage", BLOCKED)
        talk.api.say("/status", ALICE)
        talk.api.wait_for("sendMessage")
        talk.ask("/status", BOB)
    with bot_api(token="4242:AAelse") as api, pytest.raises(WrongUse):
        run(NOWHERE, stranger(api.address), threading.Event())
    formatter = logging.Formatter()
    lines = [formatter.format(record) for record in caplog.records]
    assert any("Forbidden" in line for line in lines)
    assert any(
        record.levelno == logging.DEBUG and record.name.startswith("telegram") for record in caplog.records
    )
    assert [line for line in lines if SECRET in line] == []
    assert SECRET not in repr(stranger("")) + json.dumps(caplog.text)
