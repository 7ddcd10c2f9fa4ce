r"""Reads recorded sessions: websocket and REST files, plain or gzip, merged by time.

Frames, one a line (times are unix seconds):

    URL <-> T        the connection was opened
    URL <- T: MSG    the client sent MSG
    T: MSG           the exchange sent MSG
    URL -> T: BODY   a REST answer

MSG and BODY are text, or else, where they are binary or hold line ends, a Python literal of bytes
(`b'\x1f\x8b…'`).
Blank lines and `configuration: …` are no frames.
"""

import ast
import gzip
import heapq
import re
import zlib
from collections.abc import Iterator, Sequence
from operator import attrgetter
from pathlib import Path
from typing import IO, cast

import msgspec
from msgspec import Struct

from collector.exchanges.adapter import MalformedMessage
from collector.exchanges.packed import is_packed, unpack
from market import MICROSECONDS, WrongUse

MAX_LINE = 64 * 1024 * 1024
"""Bytes; no frame is longer."""
MAX_RAW = 4096
"""Bytes kept of a damaged line."""
_GZIP = b"\x1f\x8b"
_TIME = rb"(\d{1,11})(?:\.(\d{1,12}))?"
_RECEIVED = re.compile(_TIME + rb": ")
_NAMED = re.compile(rb"(\S+) (<->|<-|->) " + _TIME + rb"(: |$)")
# What repr() makes of bytes, and nothing else: so that reading it can neither fail nor run away.
_ESCAPE = rb"\\(?:x[0-9a-fA-F]{2}|[\\'\"nrt])"
_LITERAL = re.compile(
    rb"b(?:'(?:[^'\\\x00-\x1f\x7f-\xff]++|" + _ESCAPE + rb")*+'"
    rb'|"(?:[^"\\\x00-\x1f\x7f-\xff]++|' + _ESCAPE + rb')*+")'
)
_JSON = msgspec.json.Decoder(msgspec.Raw)


class Opened(Struct, frozen=True, gc=False):
    """The connection to `url` was opened at `t` (microseconds UTC, as every `t`)."""

    url: str
    t: int


class Sent(Struct, frozen=True, gc=False):
    """The client sent `message`."""

    url: str
    t: int
    message: bytes


class Received(Struct, frozen=True, gc=False):
    """The exchange sent `message`."""

    t: int
    message: bytes


class RestAnswer(Struct, frozen=True, gc=False):
    """The exchange answered a GET of `url` with `body`."""

    url: str
    t: int
    body: bytes


class Damaged(Struct, frozen=True, gc=False):
    """A line that is no frame; `t` is the time of the frame before it in its file, 0 without one."""

    line_number: int
    reason: str
    raw: bytes
    t: int


class EndedEarly(Struct, frozen=True, gc=False):
    """The file at `path` breaks off; everything up to its last whole line was given. `t` as in Damaged."""

    path: Path
    reason: str
    t: int


Frame = Opened | Sent | Received | RestAnswer | Damaged | EndedEarly


def read(paths: Sequence[Path]) -> Iterator[Frame]:
    """The frames of all files in the order of time; of one time, in the order of the files.

    No more than a line of each file is held in memory.

    Raises:
        WrongUse: at once, if a file cannot be read or holds no readable message.
    """
    for path in paths:
        _require_message(path)
    if len(paths) == 1:
        return _frames(paths[0])
    return heapq.merge(*map(_frames, paths), key=attrgetter("t"))


def _require_message(path: Path) -> None:
    for frame in _frames(path):
        if isinstance(frame, Received | RestAnswer) and _is_whole(frame):
            return
    raise WrongUse(f"{path}: not one readable message in it; is it a recording?")


def _frames(path: Path) -> Iterator[Frame]:
    time = number = 0
    try:
        with _opened(path) as file:
            while line := file.readline(MAX_LINE):
                number += 1
                is_terminated = line.endswith(b"\n")
                if len(line) == MAX_LINE and not is_terminated:
                    yield Damaged(number, f"longer than {MAX_LINE} bytes", line[:MAX_RAW], time)
                    _skip_line(file)
                elif frame := _frame(line.rstrip(b"\r\n"), number, time):
                    if not is_terminated and not _is_whole(frame):
                        yield EndedEarly(path, f"line {number} breaks off", time)
                        return
                    time = frame.t
                    yield frame
    except (EOFError, zlib.error, gzip.BadGzipFile):
        yield EndedEarly(path, f"the gzip stream breaks off after line {number}", time)
    except OSError as error:
        raise WrongUse(f"{path}: cannot be read: {error.strerror}") from None


def _opened(path: Path) -> IO[bytes]:
    with path.open("rb") as file:
        is_gzip = file.read(len(_GZIP)) == _GZIP
    return cast("IO[bytes]", gzip.open(path, "rb")) if is_gzip else path.open("rb")


def _skip_line(file: IO[bytes]) -> None:
    while (piece := file.readline(MAX_LINE)) and not piece.endswith(b"\n"):
        pass


def _frame(line: bytes, number: int, time: int) -> Frame | None:
    if found := _RECEIVED.match(line):
        received = _message(line[found.end() :])
        if received is None:
            return Damaged(number, "a literal of bytes that is none", line[:MAX_RAW], time)
        return Received(_microseconds(*found.groups()), received)
    if not line.strip() or line.startswith(b"configuration: "):
        return None
    found = _NAMED.match(line)
    message = None if found is None else _message(line[found.end() :])
    if found is None or message is None:
        return Damaged(number, "no frame of a recording", line[:MAX_RAW], time)
    url, arrow, *parts, colon = found.groups()
    name, moment = url.decode(errors="replace"), _microseconds(*parts)
    if arrow == b"<->" and not colon:
        return Opened(name, moment)
    if arrow == b"<-" and colon:
        return Sent(name, moment, message)
    if arrow == b"->" and colon:
        return RestAnswer(name, moment, message)
    return Damaged(number, "no frame of a recording", line[:MAX_RAW], time)


def _message(text: bytes) -> bytes | None:
    """The message itself; None for a literal of bytes that is damaged."""
    if not text.startswith((b"b'", b'b"')):
        return text
    if not _LITERAL.fullmatch(text):
        return None
    found: bytes = ast.literal_eval(text.decode())
    return found


def _microseconds(whole: bytes, fraction: bytes | None) -> int:
    return int(whole) * MICROSECONDS + int((fraction or b"0")[:6].ljust(6, b"0"))


def _is_whole(frame: Frame) -> bool:
    """Whether a frame that no newline ends is all there: its JSON is, packed or not."""
    match frame:
        case Received(message=text) | Sent(message=text) | RestAnswer(body=text):
            try:
                _JSON.decode(unpack(text) if is_packed(text) else text)
            except (msgspec.DecodeError, MalformedMessage, RecursionError):
                return False
            return True
    return False
