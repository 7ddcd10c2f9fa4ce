"""The bot's answers and alerts in one chat: both together keep what Telegram asks of one bot."""

import asyncio
import threading
from itertools import pairwise

import pytest
from talking import ALICE, talking

from alerts.channels.telegram import TelegramChannel
from alerts.dispatcher import Dispatcher, Outlet
from alerts.pace import Limits
from alerts.run import run
from alerts.telegram.limiter import Limiter
from alerts.telegram.limits import (
    ANSWERS_PER_SECOND,
    GAP,
    GROUP_PER_MINUTE,
    IN_CHAT,
    IN_GROUP,
    MOST_CHATS,
    place,
)
from alerts.telegram.turns import SharedTurns
from storage import turns
from storage.clock import wall_clock
from storage.database import connect
from storage.outbox import AlertType, Event, alert_rows, write_alerts
from tests.alerts.bot_calls import Call
from tests.alerts.bot_limits import excess
from tests.alerts.test_dispatcher import START, Clock, Recorder, tell

SECOND = 1_000_000
GROUP = -1009
EACH = 4


def alerts(connection, count):
    for number in range(count):
        event = Event(
            alert_type=AlertType.TEST,
            timestamp=1,
            title=f"alert {number}",
            message="",
            dedupe_key=f"{number}",
        )
        write_alerts(connection, alert_rows(event, ["phone"]))


def test_a_burst_of_both_in_one_chat_keeps_its_limit(database):
    with talking(database) as talk, connect(database, autocommit=True) as connection:
        api = talk.api
        channel = TelegramChannel(api.token, ALICE, api.address)
        outlet = Outlet(channel, Limits(gap=GAP), place=place(ALICE))
        stop = threading.Event()
        sending = threading.Thread(target=run, args=(database, {"phone": outlet}, wall_clock, stop))
        sending.start()
        try:
            alerts(connection, EACH)
            for _ in range(EACH):
                api.say("/version", ALICE)
            api.wait(lambda: len(api.messages) == 2 * EACH)
        finally:
            stop.set()
            sending.join()
        texts = [message.plain for message in api.messages.values()]
        assert sum(text.startswith("alert ") for text in texts) == EACH
        assert excess(api.calls) == []


def test_alerts_wait_for_the_minute_that_answers_have_filled(database):
    clock = Clock()
    with connect(database, autocommit=True) as session, connect(database, autocommit=True) as bot:
        tell(session, 2)
        for number in range(GROUP_PER_MINUTE - 1):
            turns.begin(bot, place(GROUP), START)
            turns.end(bot, place(GROUP), START + number * SECOND)
        clock.now = START + 30 * SECOND
        channel = Recorder()
        sending = Dispatcher(session, "console", Outlet(channel, IN_GROUP, place=place(GROUP)), clock)
        assert sending.send_due() == START + 60 * SECOND
        assert channel.taken == [[1]]
        turns.take(bot, place(GROUP), clock.now, 1)
        clock.now = START + 60 * SECOND
        # The bot calls just now.
        assert clock.now < (sending.send_due() or 0) < clock.now + SECOND
        turns.release(bot, place(GROUP))
        sending.send_due()
        assert channel.taken == [[1], [2]]


class Waited(Exception):
    pass


def test_answers_wait_for_what_alerts_have_sent(database):
    waited = []

    async def wait(seconds):
        waited.append(seconds)
        raise Waited

    async def call():
        raise AssertionError

    limiter = Limiter(SharedTurns(database), wait=wait)

    def ask(chat):
        with pytest.raises(Waited):
            asyncio.run(limiter.process_request(call, (), {}, "sendMessage", {"chat_id": chat}, None))

    with connect(database, autocommit=True) as dispatcher:
        # As if they had ended a little later, however long it takes until it is asked.
        later = wall_clock() + 10 * SECOND
        for _ in range(GROUP_PER_MINUTE):
            turns.begin(dispatcher, place(GROUP), later)
            turns.end(dispatcher, place(GROUP), later)
        ask(GROUP)
        assert 0 < waited[-1] <= 70
        assert turns.take(dispatcher, place(ALICE), wall_clock(), 1) == []
        ask(ALICE)
        assert waited[-1] <= 0.05
        asyncio.run(limiter.shutdown())


def test_the_bot_keeps_one_session_for_its_turns_and_makes_another_when_it_is_lost(database):
    shared = SharedTurns(database)

    async def call(chat):
        turn = await shared.take(chat)
        assert turn.is_free
        await turn.begin()
        await turn.end()
        await turn.release()

    with connect(database, autocommit=True) as other:

        def sessions():
            name = "deltatape telegram turns"
            found = other.execute(
                "SELECT pid FROM pg_stat_activity"
                " WHERE application_name = %s AND datname = current_database()",
                (name,),
            )
            return [pid for (pid,) in found]

        for chat in (ALICE, GROUP, ALICE):
            asyncio.run(call(chat))
        (first,) = sessions()
        # The turn was given back, though its session goes on.
        assert turns.take(other, place(ALICE), wall_clock(), 5) is not None
        turns.release(other, place(ALICE))
        other.execute("SELECT pg_terminate_backend(%s, 60000)", (first,))
        asyncio.run(call(ALICE))
        (second,) = sessions()
        assert second != first
    asyncio.run(shared.close())


def test_without_the_database_the_bot_counts_alone():
    now = [0]
    called = []

    async def wait(seconds):
        now[0] += round(seconds * SECOND)

    async def call():
        called.append(now[0])
        return True

    limiter = Limiter(SharedTurns("postgresql://127.0.0.1:1/none"), lambda: now[0], wait)

    async def ask():
        for _ in range(3):
            await limiter.process_request(call, (), {}, "sendMessage", {"chat_id": 7}, None)

    asyncio.run(ask())
    assert [after - before for before, after in pairwise(called)] == [GAP, GAP]


def test_the_book_of_limits_finds_what_came_too_soon():
    def calls(chat, *times):
        return [Call("sendMessage", {"chat_id": chat}, {}, at) for at in times]

    assert excess([*calls(1, 0.0, 1.0, 2.0), *calls(2, 0.0, 1.0)]) == []
    assert excess(calls(1, 0.0, 0.9)) == ["1: 2 calls within 1 s"]
    assert excess(calls(-1, *range(21))) == ["-1: 21 calls within 60 s"]
    assert excess(calls(-1, *range(0, 60, 3))) == []
    assert excess([Call("sendMessage", {"chat_id": chat}, {}, 0.0) for chat in range(1, 32)]) == [
        "all chats: 31 calls within 1 s"
    ]


def test_both_halves_together_are_no_more_than_a_bot_may_send():
    # In any second each chat of alerts has one call at most, and the bot one more than it has gaps.
    assert IN_CHAT.gap == IN_GROUP.gap > SECOND
    assert MOST_CHATS + ANSWERS_PER_SECOND + 1 <= 30
