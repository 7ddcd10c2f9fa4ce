"""Calls of the local Bot API, the messages that they make, and the ways in which one goes wrong."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Fault:
    """How one call goes wrong.

    Attributes:
        status: of the answer; 0: there is none.
        description: what it says.
        retry_after: seconds that it asks to wait.
        is_taken: whether the call has its effect all the same.
        is_held: the connection stays open without an answer, until the client or the test has enough.
        body: sent instead of any JSON.
    """

    status: int = 0
    description: str = ""
    retry_after: int | None = None
    is_taken: bool = False
    is_held: bool = False
    body: bytes | None = None


def too_many(retry_after: int) -> Fault:
    return Fault(429, f"Too Many Requests: retry after {retry_after}", retry_after)


def broken(status: int = 502) -> Fault:
    return Fault(status, body=b"<html>Bad Gateway</html>")


def refused(status: int, description: str) -> Fault:
    return Fault(status, description)


BLOCKED = refused(403, "Forbidden: bot was blocked by the user")
NOT_TAKEN = Fault()
"""The connection is cut before the call has any effect."""
TIMED_OUT = Fault(is_held=True)
"""No answer ever comes, and nothing was taken."""
ANSWER_LOST = Fault(is_taken=True)
"""The message was taken, then the connection is cut."""
ANSWER_LATE = Fault(is_taken=True, is_held=True)
"""The message was taken, and no answer ever comes."""
MALFORMED = Fault(200, is_taken=True, body=b'{"ok":true,"resul')


@dataclass
class Call:
    """One call of a method, as it came.

    Attributes:
        method: such as sendMessage.
        params: its parameters; what was sent as JSON is decoded.
        files: bytes by the name of their part.
        at: `time.monotonic()` of its arrival.
        fault: how it went wrong.
        status: what it was answered; 0 where it was not, or not yet.
        message: what it brought into being or changed.
    """

    method: str
    params: dict[str, Any]
    files: dict[str, bytes]
    at: float
    fault: Fault | None = None
    status: int = 0
    message: "Message | None" = None


@dataclass
class Message:
    """A message in a chat, as it looks now.

    Attributes:
        id: the message_id, unique on this server.
        chat: its chat.
        text: the text or the caption, markup and all.
        plain: what people see of it.
        photo: the picture's bytes.
        buttons: rows of buttons, as they came.
        edits: how often it was changed.
        at: `time.monotonic()` of its arrival.
    """

    id: int
    chat: int
    text: str
    plain: str
    photo: bytes | None = None
    buttons: list[list[dict[str, Any]]] = field(default_factory=list)
    edits: int = 0
    at: float = 0.0

    def button(self, label: str) -> str:
        """The data of the button whose label contains `label`."""
        (found,) = [each for row in self.buttons for each in row if label in each["text"]]
        return found["callback_data"]
