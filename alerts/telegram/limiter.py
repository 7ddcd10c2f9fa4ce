"""How fast the bot answers: never faster than Telegram allows, and again where a call failed.

Limits: https://core.telegram.org/bots/faq#my-bot-is-hitting-limits-how-do-i-avoid-this: about 30 messages a
second overall, one a second in a chat, 20 a minute in a group.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import TYPE_CHECKING, Any

from telegram.error import BadRequest, NetworkError, RetryAfter, TelegramError
from telegram.ext import BaseRateLimiter

from alerts.pace import WINDOW, Limits, free_at
from market.timeframe import MICROSECONDS

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

ATTEMPTS = 4
FIRST_DELAY = 0.5
LONGEST_WAIT = 75.0
"""Seconds; an answer that would come later is not given at all."""
OVERALL_GAP = MICROSECONDS // 25
IN_CHAT = Limits(gap=MICROSECONDS)
IN_GROUP = Limits(gap=MICROSECONDS, per_minute=18)
MOST_CHATS = 1_000


class Limiter(BaseRateLimiter[None]):
    """Gives each call to a chat its turn, and tries it again when it failed.

    A call whose answer was lost is tried again too: an answer that comes twice is better than none.

    Args:
        now: microseconds on a clock that never goes back.
        wait: sleeps for so many seconds.
    """

    def __init__(
        self,
        now: Callable[[], int] = lambda: time.monotonic_ns() // 1000,
        wait: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._now = now
        self._wait = wait
        self._last = 0
        self._chats: dict[int, deque[int]] = {}
        self._blocked: dict[int, int] = {}

    async def initialize(self) -> None:
        """Nothing is to be opened."""

    async def shutdown(self) -> None:
        """Nothing is to be closed."""

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
            await self._turn(chat)
            try:
                return await callback(*args, **kwargs)
            except BadRequest:
                raise
            except RetryAfter as error:
                asked = error.retry_after
                seconds = asked if isinstance(asked, int) else asked.total_seconds()
                if attempt + 1 == ATTEMPTS or seconds > LONGEST_WAIT:
                    raise
                self._blocked[chat] = self._now() + round(seconds * MICROSECONDS)
            except NetworkError:
                if attempt + 1 == ATTEMPTS:
                    raise
                await self._wait(FIRST_DELAY * 2**attempt)
        raise AssertionError  # the last attempt returned or raised

    async def _turn(self, chat: int) -> None:
        """Wait for the chat's turn, then for that of everything.

        Raises:
            TelegramError: it would come too late to be of use.
        """
        limits = IN_GROUP if chat < 0 else IN_CHAT
        while True:
            now = self._now()
            calls = self._calls(chat, now)
            at = max(now, free_at(tuple(calls), limits), self._blocked.get(chat, 0))
            if at - now > LONGEST_WAIT * MICROSECONDS:
                raise TelegramError("too much is being asked in this chat: an answer was left out")
            # Taken before the waiting: whoever comes meanwhile has a later turn.
            calls.append(at)
            await self._until(at)
            # Telegram may have asked meanwhile to wait.
            if self._blocked.get(chat, 0) <= self._now():
                break
        # Only now: a chat that waits for long must not hold up the others.
        self._last = max(self._now(), self._last + OVERALL_GAP)
        await self._until(self._last)

    def _calls(self, chat: int, now: int) -> deque[int]:
        """When the chat's last calls are, or will be; what was longer ago than a minute is forgotten."""
        if len(self._chats) >= MOST_CHATS:
            self._chats = {each: calls for each, calls in self._chats.items() if calls[-1] > now - WINDOW}
            self._blocked = {each: until for each, until in self._blocked.items() if until > now}
        return self._chats.setdefault(chat, deque(maxlen=IN_GROUP.per_minute))

    async def _until(self, at: int) -> None:
        if (left := at - self._now()) > 0:
            await self._wait(left / MICROSECONDS)
