"""The local Bot API itself, spoken to by the real library."""

import asyncio

import pytest
import telegram
from bot_api import TOKEN, bot_api
from telegram.request import HTTPXRequest

from tests.alerts.bot_calls import ANSWER_LOST, BLOCKED, MALFORMED, NOT_TAKEN, TIMED_OUT, broken, too_many

PNG = b"\x89PNG\r\n\x1a\n" + bytes(8)


def spoken(api, talk, token=TOKEN):
    """What `talk(bot)` gives."""

    async def run():
        request = HTTPXRequest(read_timeout=60.0, httpx_kwargs={"trust_env": False})
        async with telegram.Bot(token, base_url=api.base_url, request=request) as bot:
            return await talk(bot)

    return asyncio.run(run())


def sent(api, text="x", **more):
    return spoken(api, lambda bot: bot.send_message(7, text, parse_mode="HTML"), **more)


def test_messages_pictures_and_edits_are_kept():
    async def talk(bot):
        buttons = telegram.InlineKeyboardMarkup([[telegram.InlineKeyboardButton("go", callback_data="d")]])
        first = await bot.send_message(7, "<b>a &lt; b</b>", parse_mode="HTML", reply_markup=buttons)
        second = await bot.send_photo(7, PNG, caption="c")
        await bot.edit_message_text("d", 7, first.message_id)
        await bot.edit_message_media(telegram.InputMediaPhoto(PNG + b"2", caption="e"), 7, second.message_id)
        return first.message_id, second.message_id

    with bot_api() as api:
        first, second = (api.messages[each] for each in spoken(api, talk))
    assert (first.plain, first.edits) == ("d", 1)
    assert (second.plain, second.photo, second.edits) == ("e", PNG + b"2", 1)
    assert api.called("sendMessage")[0].params["text"] == "<b>a &lt; b</b>"
    assert [call.status for call in api.calls] == [200] * 5


@pytest.mark.parametrize("text", ["a < b", "<b>a", "</b>", "<script>a</script>", "x" * 4097, ""])
def test_what_telegram_refuses_is_refused(text):
    with bot_api() as api, pytest.raises(telegram.error.BadRequest):
        sent(api, text)
    assert api.messages == {}


@pytest.mark.parametrize(
    ("fault", "error", "is_taken"),
    [
        (too_many(3), telegram.error.RetryAfter, False),
        (broken(), telegram.error.NetworkError, False),
        (BLOCKED, telegram.error.Forbidden, False),
        (NOT_TAKEN, telegram.error.NetworkError, False),
        (ANSWER_LOST, telegram.error.NetworkError, True),
        (MALFORMED, telegram.error.TelegramError, True),
    ],
)
def test_calls_go_wrong_as_told(monkeypatch, fault, error, is_taken):
    monkeypatch.setenv("PTB_TIMEDELTA", "1")  # else the library warns of what will be
    with bot_api() as api:
        api.fail("sendMessage", fault)
        with pytest.raises(error):
            sent(api)
        assert len(api.messages) == is_taken
        sent(api)
        assert len(api.messages) == is_taken + 1


def test_an_answer_that_never_comes_times_out():
    with bot_api() as api:
        api.fail("sendMessage", TIMED_OUT)
        with pytest.raises(telegram.error.TimedOut):
            spoken(api, lambda bot: bot.send_message(7, "x", read_timeout=0.2))
        assert api.messages == {}
        assert len(api.called("sendMessage")) == 1


def test_another_token_is_not_known():
    with bot_api() as api, pytest.raises(telegram.error.InvalidToken):
        sent(api, token="1:else")


def test_updates_wait_for_who_polls_and_the_second_poller_ends_the_first():
    async def talk(bot):
        api.say("/start", user=5)
        (update,) = await bot.get_updates(timeout=30)
        seen = update.update_id + 1
        async with telegram.Bot(TOKEN, base_url=api.base_url) as other:
            first = asyncio.create_task(bot.get_updates(offset=seen, timeout=60))
            await asyncio.to_thread(api.wait, lambda: api.polls == 2)
            second = asyncio.create_task(other.get_updates(offset=seen, timeout=60))
            with pytest.raises(telegram.error.Conflict):
                await first
            api.say("again", user=5, chat=-9)
            (later,) = await second
        return update.message.text, later.message.chat.type

    with bot_api() as api:
        assert spoken(api, talk) == ("/start", "supergroup")
