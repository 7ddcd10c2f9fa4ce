"""The bot's turns in chats, which alerts go to as well: shared through the database while it answers."""

from __future__ import annotations

import asyncio
import logging
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

import psycopg

from alerts.telegram.limits import GROUP_PER_MINUTE, place
from market import Unavailable
from storage import turns
from storage.clock import wall_clock
from storage.database import connect

if TYPE_CHECKING:
    from collections.abc import Callable

    from storage.database import Connection

log = logging.getLogger(__name__)


class Turn:
    """A turn of somebody who is alone, or does not know of others.

    Attributes:
        is_free: whether nobody else has it.
        ages: how long ago calls of the last minute ended, in microseconds, falling; None: nobody knows.
    """

    is_free = True
    ages: list[int] | None = None

    async def begin(self) -> None:
        """A call begins."""

    async def end(self) -> None:
        """It is over."""

    async def release(self) -> None:
        """It is the next one's turn."""


class Turns(Protocol):
    """Gives turns."""

    async def take(self, chat: int) -> Turn:
        """A turn in `chat`, to be released."""

    async def close(self) -> None:
        """No turn is wanted any more."""


class SharedTurns:
    """Turns that this program shares with whatever else writes to the same chats.

    Without the database alerts wait, and the bot is alone. One session is kept for all turns.

    Args:
        url: the database.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._session: Connection | None = None
        self._lock = threading.Lock()

    async def take(self, chat: int) -> Turn:
        """A turn in `chat`."""
        try:
            return await asyncio.to_thread(self._take, place(chat))
        except (Unavailable, psycopg.Error) as error:
            log.info("the bot counts alone: %s", error)
            return Turn()

    async def close(self) -> None:
        """End the session."""
        if self._session is not None:
            await asyncio.to_thread(self._session.close)

    def _take(self, where: str) -> Turn:
        now = wall_clock()
        try:
            connection = self._connected()
            ends = turns.take(connection, where, now, GROUP_PER_MINUTE)
        except psycopg.OperationalError:
            # The server was away since the last turn; whether it is back shows at the second try.
            connection = self._connected()
            ends = turns.take(connection, where, now, GROUP_PER_MINUTE)
        return _SharedTurn(connection, where, now, ends)

    def _connected(self) -> Connection:
        with self._lock:
            kept = self._session
            if kept is not None and not kept.closed:
                return kept
            if kept is not None:
                # It was lost: what is left of it here is given back.
                kept.close()
            self._session = connect(self._url, application_name="deltatape telegram turns", autocommit=True)
            return self._session


class _SharedTurn(Turn):
    def __init__(self, connection: Connection, where: str, now: int, ends: list[int] | None) -> None:
        self.is_free = ends is not None
        self.ages = [now - at for at in ends or ()]
        self._connection = connection
        self._where = where

    async def begin(self) -> None:
        await asyncio.to_thread(self._note, turns.begin)

    async def end(self) -> None:
        await asyncio.to_thread(self._note, turns.end)

    async def release(self) -> None:
        # Where the session was lost, its turns ended with it.
        if self.is_free:
            await asyncio.to_thread(self._release)

    def _release(self) -> None:
        with suppress(psycopg.Error):
            turns.release(self._connection, self._where)

    def _note(self, what: Callable[[Connection, str, int], None]) -> None:
        try:
            what(self._connection, self._where, wall_clock())
        except psycopg.Error as error:
            log.info("a call is not counted: %s", error)
