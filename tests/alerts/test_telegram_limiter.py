"""How fast the bot may answer, in a time of the test's own: nothing here waits."""

import asyncio
import heapq
from datetime import timedelta

import pytest
from telegram.error import BadRequest, Forbidden, NetworkError, RetryAfter, TelegramError, TimedOut

from alerts.telegram.limiter import ATTEMPTS, LONGEST_WAIT, Limiter
from alerts.telegram.turns import Turn

SECOND = 1_000_000


class Alone:
    """Nobody else writes to these chats."""

    async def take(self, chat):
        return Turn()


class World:
    """A clock that moves when everybody waits."""

    def __init__(self):
        self.now = 5 * SECOND
        self._sleepers = []
        self._count = 0

    async def sleep(self, seconds):
        done = asyncio.get_running_loop().create_future()
        self._count += 1
        heapq.heappush(self._sleepers, (self.now + round(seconds * SECOND), self._count, done))
        await done

    async def run(self, *work):
        tasks = [asyncio.ensure_future(each) for each in work]
        while not all(task.done() for task in tasks):
            for _ in range(20):
                await asyncio.sleep(0)
            if self._sleepers:
                self.now, _, done = heapq.heappop(self._sleepers)
                done.set_result(None)
        return await asyncio.gather(*tasks, return_exceptions=True)


def called(chats, outcomes=()):
    """When each call to these chats came, and what became of each request."""
    world = World()
    limiter = Limiter(Alone(), lambda: world.now, world.sleep)
    calls, left = [], list(outcomes)

    async def call(chat):
        calls.append((world.now, chat))
        if left and (failure := left.pop(0)):
            raise failure
        return True

    requests = [
        limiter.process_request(call, (chat,), {}, "sendMessage", {"chat_id": chat}, None) for chat in chats
    ]
    ended = asyncio.run(world.run(*requests))
    return calls, ended


def within(times, length):
    """The most calls in any span of this length."""
    return max(sum(begin <= each < begin + length for each in times) for begin in times)


def test_a_chat_gets_one_a_second_and_nobody_waits_for_another():
    calls, ended = called([1] * 30 + [2, 3])
    assert ended == [True] * 32
    assert within([at for at, chat in calls if chat == 1], SECOND) == 1
    assert max(at for at, chat in calls if chat != 1) < 7 * SECOND


def test_a_group_gets_less_than_twenty_a_minute_and_what_comes_too_late_is_left_out():
    calls, ended = called([-1] * 60 + [5])
    times = [at for at, chat in calls if chat == -1]
    assert within(times, 60 * SECOND) == 18
    assert within(times, SECOND) == 1
    left_out = [each for each in ended if isinstance(each, TelegramError)]
    assert len(left_out) + len(calls) == 61
    assert max(times) - min(times) <= LONGEST_WAIT * SECOND
    assert next(at for at, chat in calls if chat == 5) < 6 * SECOND


def test_many_chats_get_less_than_thirty_a_second():
    calls, _ = called(range(1, 201))
    assert len(calls) == 200
    assert within([at for at, _ in calls], SECOND) <= 26


@pytest.mark.parametrize("failure", [NetworkError("Bad Gateway"), TimedOut()])
def test_what_failed_is_tried_again(failure):
    calls, ended = called([1], [failure] * (ATTEMPTS - 1))
    assert ended == [True]
    assert len(calls) == ATTEMPTS
    _, ended = called([1], [failure] * ATTEMPTS)
    assert ended == [failure]


def test_a_chat_waits_as_long_as_is_asked_and_no_other_does(monkeypatch):
    monkeypatch.setenv("PTB_TIMEDELTA", "1")
    calls, ended = called([1, 1, 2], [RetryAfter(timedelta(seconds=30))])
    assert ended == [True] * 3
    first, *later = [at for at, chat in calls if chat == 1]
    assert min(later) >= first + 30 * SECOND
    assert within(later, SECOND) == 1
    assert next(at for at, chat in calls if chat == 2) < first + SECOND
    calls, (ended,) = called([1], [RetryAfter(timedelta(seconds=3000))])
    assert isinstance(ended, RetryAfter)
    assert len(calls) == 1


@pytest.mark.parametrize("failure", [BadRequest("no"), Forbidden("blocked")])
def test_what_is_refused_is_not_tried_again(failure):
    calls, ended = called([1], [failure])
    assert (len(calls), ended) == (1, [failure])
