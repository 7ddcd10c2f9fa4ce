"""How fast the bot answers: never faster than Telegram allows, and again where a call failed."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from telegram.error import BadRequest, NetworkError, RetryAfter, TelegramError
from telegram.ext import BaseRateLimiter

from alerts.pace import free_at
from alerts.telegram.limits import ANSWERS_PER_SECOND, GROUP_PER_MINUTE, IN_CHAT, IN_GROUP
from market.timeframe import MICROSECONDS
from storage.turns import WINDOW

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from alerts.telegram.turns import Turn, Turns

Result = TypeVar("Result")

ATTEMPTS = 4
FIRST_DELAY = 0.5
LONGEST_WAIT = 75.0
"""Seconds; an answer that would come later is not given at all."""
OVERALL_GAP = MICROSECONDS // ANSWERS_PER_SECOND
BUSY_SECONDS = 0.05
"""How long it takes until it is looked again whether another program's call there is over."""
MOST_KNOWN = 1_000


@dataclass(slots=True)
class _Chat:
    """One chat: who calls there has the lock; when the last calls ended; until when Telegram wants none."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    ends: deque[int] = field(default_factory=lambda: deque(maxlen=GROUP_PER_MINUTE))
    blocked: int = 0


class Limiter(BaseRateLimiter[None]):
    """Gives each call to a chat its turn, and tries it again when it failed.

    A call whose answer was lost is tried again too: an answer that comes twice is better than none.

    Args:
        turns: those in chats, of all that write there.
        now: microseconds on a clock that never goes back.
        wait: sleeps for so many seconds.
    """

    def __init__(
        self,
        turns: Turns,
        now: Callable[[], int] = lambda: time.monotonic_ns() // 1000,
        wait: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._turns = turns
        self._now = now
        self._wait = wait
        self._last = 0
        self._chats: dict[int, _Chat] = {}

    async def initialize(self) -> None:
        """Nothing is to be opened."""

    async def shutdown(self) -> None:
        """No call is made any more."""
        await self._turns.close()

    async def process_request(
        self,
        callback: Callable[..., Coroutine[Any, Any, bool | dict[str, Any] | list[dict[str, Any]]]],
        args: Any,
        kwargs: dict[str, Any],
        endpoint: str,
        data: dict[str, Any],
        rate_limit_args: None,
    ) -> bool | dict[str, Any] | list[dict[str, Any]]:
        """Call `callback` when it is its chat's turn; what belongs to no chat is called once, at once."""
        chat = data.get("chat_id")
        if not isinstance(chat, int):
            return await callback(*args, **kwargs)
        for attempt in range(ATTEMPTS):
            try:
                return await self._in_turn(chat, partial(callback, *args, **kwargs))
            except BadRequest:
                raise
            except RetryAfter as error:
                asked = error.retry_after
                seconds = asked if isinstance(asked, int) else asked.total_seconds()
                if attempt + 1 == ATTEMPTS or seconds > LONGEST_WAIT:
                    raise
                self._known(chat).blocked = self._now() + round(seconds * MICROSECONDS)
            except NetworkError:
                if attempt + 1 == ATTEMPTS:
                    raise
                await self._wait(FIRST_DELAY * 2**attempt)
        raise AssertionError  # the last attempt returned or raised

    async def _in_turn(self, chat: int, call: Callable[[], Awaitable[Result]]) -> Result:
        """Wait for the chat's turn, then for that of everything, and call.

        Raises:
            TelegramError: it would come too late to be of use.
        """
        known, latest = self._known(chat), self._now() + round(LONGEST_WAIT * MICROSECONDS)
        async with known.lock:
            while True:
                turn = await self._turns.take(chat)
                try:
                    at = self._free_at(chat, known, turn)
                    if at <= self._now():
                        return await self._call(known, turn, call)
                finally:
                    await turn.release()
                if at > latest:
                    raise TelegramError("too much is being asked in this chat: an answer was left out")
                await self._until(at)

    def _free_at(self, chat: int, known: _Chat, turn: Turn) -> int:
        now = self._now()
        if not turn.is_free:
            return now + round(BUSY_SECONDS * MICROSECONDS)
        calls = known.ends if turn.ages is None else [now - age for age in turn.ages]
        return max(free_at(tuple(calls), IN_GROUP if chat < 0 else IN_CHAT), known.blocked)

    async def _call(self, known: _Chat, turn: Turn, call: Callable[[], Awaitable[Result]]) -> Result:
        # Only now: a chat that waits for long must not hold up the others.
        self._last = max(self._now(), self._last + OVERALL_GAP)
        await self._until(self._last)
        await turn.begin()
        try:
            return await call()
        finally:
            known.ends.append(self._now())
            await turn.end()

    def _known(self, chat: int) -> _Chat:
        """What is known of a chat; of too many those are forgotten that nobody waits for."""
        if len(self._chats) >= MOST_KNOWN:
            since = self._now() - WINDOW
            self._chats = {
                number: each
                for number, each in self._chats.items()
                if each.lock.locked() or max(each.blocked, *each.ends, 0) > since
            }
        return self._chats.setdefault(chat, _Chat())

    async def _until(self, at: int) -> None:
        if (left := at - self._now()) > 0:
            await self._wait(left / MICROSECONDS)
