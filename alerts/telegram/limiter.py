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

from alerts.pace import Limits, free_at
from market.timeframe import MICROSECONDS

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

ATTEMPTS = 4
FIRST_DELAY = 0.5
LONGEST_WAIT = 75.0
"""Seconds; an answer that would come later is not given at all."""
OVERALL = Limits(gap=MICROSECONDS // 25)
IN_CHAT = Limits(gap=MICROSECONDS)
IN_GROUP = Limits(gap=MICROSECONDS, per_minute=18)
MOST_CHATS = 10_000


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
        self._overall: deque[int] = deque(maxlen=1)
        self._chats: dict[int, deque[int]] = {}

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
            except NetworkError:
                if attempt + 1 == ATTEMPTS:
                    raise
                seconds = FIRST_DELAY * 2**attempt
            await self._wait(seconds)
        raise AssertionError  # the last attempt returned or raised

    async def _turn(self, chat: int) -> None:
        """Wait for the chat's turn.

        Raises:
            TelegramError: it would come too late to be of use.
        """
        limits = IN_GROUP if chat < 0 else IN_CHAT
        if len(self._chats) >= MOST_CHATS and chat not in self._chats:
            self._chats.clear()
        calls = self._chats.setdefault(chat, deque(maxlen=IN_GROUP.per_minute))
        now = self._now()
        at = max(now, free_at(tuple(calls), limits), free_at(tuple(self._overall), OVERALL))
        if at - now > LONGEST_WAIT * MICROSECONDS:
            raise TelegramError("too much is being asked in this chat: an answer was left out")
        # Taken before the waiting: whoever comes meanwhile has a later turn.
        calls.append(at)
        self._overall.append(at)
        if at > now:
            await self._wait((at - now) / MICROSECONDS)
