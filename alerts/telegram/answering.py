"""From a line that somebody wrote, or a button, to the answer: one transaction, failures as one line."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import psycopg

from alerts.telegram.asked import Asked
from alerts.telegram.commands import COMMANDS
from alerts.telegram.markup import MOST_DATA, Button, Reply, safe
from market import Unavailable, WrongUse
from storage import streams
from storage.database import connect, require_schema

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from alerts.charts import Theme
    from alerts.telegram.commands import Command
    from storage.database import Connection

log = logging.getLogger(__name__)

LONGEST_LINE = 200
STATEMENT_SECONDS = 5
CONFIRM_SECONDS = 600
"""So long a question may be answered."""
CANCEL = "x"
AWAY = "The database does not answer just now. Nothing is lost: try again in a moment."
BROKEN = "Something went wrong here; the log says what."


@dataclass(frozen=True, slots=True)
class Line:
    """A command as it was written: its name, and the words after it."""

    name: str
    words: tuple[str, ...]

    @classmethod
    def parse(cls, text: str) -> Line | None:
        """Of `/name word …` or `name word …`; None for what is too long, or nothing."""
        name, *words = text.removeprefix("/").split() or [""]
        return cls(name.lower(), tuple(words)) if name and len(text) <= LONGEST_LINE else None

    def __str__(self) -> str:
        return " ".join((self.name, *self.words))


@dataclass(frozen=True, slots=True)
class Answers:
    """Answers lines out of a database.

    Attributes:
        url: the database.
        theme: how pictures look.
        channels: names of the channels of alerts, first the one that is meant where none is named.
        own: of chats that alerts go to, by which channel: there that one is meant.
    """

    url: str
    theme: Theme
    channels: tuple[str, ...]
    own: Mapping[int, str] = field(default_factory=dict)

    def answer(self, line: Line, chat: int, page: int = 0, notes: Sequence[str] = ()) -> Reply:
        """What is said to `line`; what would change something is only asked."""
        return self._guarded(line, chat, page, notes, is_confirmed=False)

    def change(self, line: Line, chat: int) -> Reply:
        """Do what `line` says, and say so."""
        return self._guarded(line, chat, 0, (), is_confirmed=True)

    def _guarded(
        self, line: Line, chat: int, page: int, notes: Sequence[str], *, is_confirmed: bool
    ) -> Reply:
        command = COMMANDS[line.name]
        try:
            return self._answer(command, line, chat, page, notes, is_confirmed=is_confirmed)
        except WrongUse as error:
            usage = f" Usage: /{line.name} {safe(command.usage)}" if command.usage else ""
            return Reply(f"✋ {safe(error)}.{usage}")
        except (Unavailable, psycopg.OperationalError, psycopg.InterfaceError) as error:
            log.warning("/%s: %s", line.name, error)
            return Reply(AWAY)
        except Exception:
            log.exception("/%s failed", line.name)
            return Reply(BROKEN)

    def _answer(
        self, command: Command, line: Line, chat: int, page: int, notes: Sequence[str], *, is_confirmed: bool
    ) -> Reply:
        reads_only = not is_confirmed
        with connect(self.url, application_name="deltatape telegram", read_only=reads_only) as connection:
            require_schema(connection)
            connection.execute(f"SET LOCAL statement_timeout = '{STATEMENT_SECONDS}s'".encode())
            asked = self._asked(connection, line, chat, page, notes)
            if is_confirmed and command.change is not None:
                return Reply(command.change(asked))
            reply = command.answer(asked)
            # What offers a choice, or says how things are, is no question yet.
            if command.change is not None and not reply.buttons:
                return question(reply, line, int(asked.now.timestamp()))
            return reply

    def _asked(self, connection: Connection, line: Line, chat: int, page: int, notes: Sequence[str]) -> Asked:
        return Asked(
            connection=connection,
            url=self.url,
            now=streams.server_time(connection),
            chat=chat,
            words=line.words,
            line=str(line),
            page=page,
            theme=self.theme,
            channels=tuple(sorted(self.channels, key=lambda name: name != self.own.get(chat))),
            notes=tuple(notes),
        )


def question(reply: Reply, line: Line, now: int) -> Reply:
    """`reply` with a button that does what `line` says, for a while, and one that does not."""
    data = f"!{now}:{line}"
    if len(data.encode()) > MOST_DATA:
        raise WrongUse("this is too long for a button: write it shorter")
    return replace(reply, buttons=((Button("✅ Yes", data), Button("No", CANCEL)),))
