"""The bot's turns in chats, which alerts go to as well: shared through the database while it answers."""

from __future__ import annotations

import asyncio
import logging
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


class SharedTurns:
    """Turns that this program shares with whatever else writes to the same chats.

    Without the database alerts wait, and the bot is alone.

    Args:
        url: the database.
    """

    def __init__(self, url: str) -> None:
        self._url = url

    async def take(self, chat: int) -> Turn:
        """A turn in `chat`."""
        try:
            return await asyncio.to_thread(self._take, place(chat))
        except (Unavailable, psycopg.Error) as error:
            log.info("the bot counts alone: %s", error)
            return Turn()

    def _take(self, where: str) -> Turn:
        connection = connect(self._url, application_name="deltatape telegram turn", autocommit=True)
        try:
            now = wall_clock()
            return _SharedTurn(connection, where, now, turns.take(connection, where, now, GROUP_PER_MINUTE))
        except BaseException:
            connection.close()
            raise


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
        # The turn ends with its session.
        await asyncio.to_thread(self._connection.close)

    def _note(self, what: Callable[[Connection, str, int], None]) -> None:
        try:
            what(self._connection, self._where, wall_clock())
        except psycopg.Error as error:
            log.info("a call is not counted: %s", error)
