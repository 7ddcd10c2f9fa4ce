"""Long polling: asking Telegram for updates, one connection after the other.

The library's own loop cannot tell a second program that polls with the same token (409) from any other
trouble; here the one that comes second leaves, and the first goes on.
"""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from telegram.error import (
    BadRequest,
    Conflict,
    Forbidden,
    InvalidToken,
    NetworkError,
    RetryAfter,
    TelegramError,
)

from alerts.telegram.bot import UPDATES
from market import Unavailable

if TYPE_CHECKING:
    from telegram import Bot, Update

log = logging.getLogger(__name__)

POLL_SECONDS = 25
FIRST_SECONDS = 10
"""The first call waits no longer: who has had an answer is not the one that comes second."""
FIRST_DELAY = 0.5
LONGEST_DELAY = 30.0
WARN_SECONDS = 60.0
LAST_SECONDS = 10.0
SECOND = (
    "another program asks Telegram for this bot's updates: stop it (deltatape up and deltatape telegram run"
    " both do), or give this one a bot of its own"
)


async def poll(bot: Bot, updates: asyncio.Queue[object]) -> None:
    """Put each update into `updates`, until cancelled.

    Args:
        bot: whose.
        updates: where they go.

    Raises:
        Unavailable: another program polls already.
        InvalidToken: the token was taken back.
    """
    offset: int | None = None
    delay, warned, has_polled = FIRST_DELAY, -WARN_SECONDS, False
    await bot.delete_webhook()
    try:
        while True:
            try:
                wait = POLL_SECONDS if has_polled else FIRST_SECONDS
                found = await bot.get_updates(offset=offset, timeout=wait, allowed_updates=UPDATES)
            except Conflict:
                if not has_polled:
                    raise Unavailable(SECOND) from None
                if time.monotonic() - warned > WARN_SECONDS:
                    warned = time.monotonic()
                    log.warning(SECOND)
                await asyncio.sleep(FIRST_DELAY)
            except (InvalidToken, Forbidden, BadRequest):
                raise
            except RetryAfter as error:
                asked = error.retry_after
                await asyncio.sleep(asked if isinstance(asked, int) else asked.total_seconds())
            except TelegramError as error:
                # A malformed answer too: it is asked for again.
                level = logging.INFO if isinstance(error, NetworkError) and delay < 2 else logging.WARNING
                log.log(level, "Telegram does not answer (%s); trying again", type(error).__name__)
                await asyncio.sleep(delay)
                delay = min(2 * delay, LONGEST_DELAY)
            else:
                delay, has_polled = FIRST_DELAY, True
                offset = await _take(found, updates, offset)
    finally:
        if offset is not None:
            # What was taken is not given again to whoever polls next.
            with suppress(TelegramError, TimeoutError):
                async with asyncio.timeout(LAST_SECONDS):
                    await bot.get_updates(offset=offset, timeout=0, allowed_updates=UPDATES)


async def _take(found: tuple[Update, ...], updates: asyncio.Queue[object], offset: int | None) -> int | None:
    for update in found:
        await updates.put(update)
    return found[-1].update_id + 1 if found else offset
