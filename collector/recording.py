r"""Reads recorded sessions: websocket and REST files, plain or gzip, merged by time.

Frames, one a line (times are unix seconds):

    URL <-> T        the connection was opened
    URL <- T: MSG    the client sent MSG
    T: MSG           the exchange sent MSG
    URL -> T: BODY   a REST answer

Recordings of our own tell connections apart, too:

    URL =N T: WHAT   in this file N stands for the connection to URL, which carries WHAT, in JSON
    T N: MSG         the exchange sent MSG over connection N
    T N+: MSG        over its second socket, which is about to take over: of this one only trades count
    URL <=> T        that socket took over
    URL >-< T        the connection was lost

Where several connections lead to one address, what stands behind a `#` makes their URLs differ.
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
from pathlib import Path
from typing import IO, cast

import msgspec
from msgspec import Struct

from collector.exchanges.adapter import MalformedMessage, Stream
from collector.exchanges.packed import is_packed, unpack
from market import MICROSECONDS, WrongUse

MAX_LINE = 64 * 1024 * 1024
"""Bytes; no frame is longer."""
MAX_RAW = 4096
"""Bytes kept of a damaged line."""
_GZIP = b"\x1f\x8b"
_TIME = rb"(\d{1,11})(?:\.(\d{1,12}))?"
_RECEIVED = re.compile(_TIME + rb"(?: (\d{1,6})(\+)?)?: ")
_NAMED = re.compile(rb"(\S+) (<->|<-|->|<=>|>-<|=\d{1,6}) " + _TIME + rb"(: |$)")
# What repr() makes of bytes, and nothing else: so that reading it can neither fail nor run away.
_ESCAPE = rb"\\(?:x[0-9a-fA-F]{2}|[\\'\"nrt])"
_LITERAL = re.compile(
    rb"b(?:'(?:[^'\\\x00-\x1f\x7f-\xff]++|" + _ESCAPE + rb")*+'"
    rb'|"(?:[^"\\\x00-\x1f\x7f-\xff]++|' + _ESCAPE + rb')*+")'
)
_JSON = msgspec.json.Decoder(msgspec.Raw)


class Carried(Struct, frozen=True, gc=False):
    """What a connection carries: streams of symbols."""

    symbols: tuple[str, ...]
    streams: frozenset[Stream]


_CARRIED = msgspec.json.Decoder(Carried)


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
    """The exchange sent `message`, over the connection to `url` if that is known.

    `is_beside`: over a second socket, beside the first one, of which trades count only.
    """

    t: int
    message: bytes
    url: str = ""
    is_beside: bool = False


class Named(Struct, frozen=True, gc=False):
    """`number` stands for the connection to `url` in what follows of the file."""

    url: str
    t: int
    number: int
    carried: Carried


class Moved(Struct, frozen=True, gc=False):
    """A second socket to `url` took over from the first."""

    url: str
    t: int


class Lost(Struct, frozen=True, gc=False):
    """The connection to `url` was lost."""

    url: str
    t: int


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


Frame = Opened | Sent | Received | RestAnswer | Named | Moved | Lost | Damaged | EndedEarly
_EVENTS: dict[bytes, type[Opened | Moved | Lost]] = {b"<->": Opened, b"<=>": Moved, b">-<": Lost}


def read(paths: Sequence[Path]) -> Iterator[Frame]:
    """The frames of all files in the order of time; of one time, in the order of the files.

    A file is open from its first frame's turn until its end, and no more than a line of it is held in memory.

    Raises:
        WrongUse: at once, if a file cannot be read or holds no readable message.
    """
    begins = [_begin(path) for path in paths]
    return _frames(paths[0]) if len(paths) == 1 else _merged(paths, begins)


def _begin(path: Path) -> int:
    """The time of the file's first frame."""
    begin: int | None = None
    for frame in _frames(path):
        begin = frame.t if begin is None else begin
        if isinstance(frame, Received | RestAnswer) and _is_whole(frame):
            return begin
    raise WrongUse(f"{path}: not one readable message in it; is it a recording?")


def _merged(paths: Sequence[Path], begins: Sequence[int]) -> Iterator[Frame]:
    """As `heapq.merge`, but that a file is not opened before its turn."""
    turns: list[tuple[int, int, Frame | None, Iterator[Frame]]] = [
        (begin, place, None, _frames(path))
        for place, (path, begin) in enumerate(zip(paths, begins, strict=True))
    ]
    heapq.heapify(turns)
    while turns:
        _, place, frame, frames = turns[0]
        if frame is not None:
            yield frame
        if (following := next(frames, None)) is None:
            heapq.heappop(turns)
        else:
            heapq.heapreplace(turns, (following.t, place, following, frames))


def _frames(path: Path) -> Iterator[Frame]:
    time = number = 0
    urls: dict[bytes, str] = {}
    try:
        with _opened(path) as file:
            while line := file.readline(MAX_LINE):
                number += 1
                is_terminated = line.endswith(b"\n")
                if len(line) == MAX_LINE and not is_terminated:
                    yield Damaged(number, f"longer than {MAX_LINE} bytes", line[:MAX_RAW], time)
                    _skip_line(file)
                elif frame := _frame(line.rstrip(b"\r\n"), number, time, urls):
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


def _frame(line: bytes, number: int, time: int, urls: dict[bytes, str]) -> Frame | None:
    """What a line says; `urls` holds, and learns, which connections the file's numbers stand for."""
    if found := _RECEIVED.match(line):
        received = _message(line[found.end() :])
        whole, fraction, connection, plus = found.groups()
        if received is None:
            return Damaged(number, "a literal of bytes that is none", line[:MAX_RAW], time)
        if connection is None:
            return Received(_microseconds(whole, fraction), received)
        if connection not in urls:
            return Damaged(number, "a connection that has no name", line[:MAX_RAW], time)
        return Received(_microseconds(whole, fraction), received, urls[connection], plus is not None)
    if not line.strip() or line.startswith(b"configuration: "):
        return None
    found = _NAMED.match(line)
    message = None if found is None else _message(line[found.end() :])
    event = None if found is None or message is None else _named(found, message, urls)
    return event or Damaged(number, "no frame of a recording", line[:MAX_RAW], time)


def _named(found: re.Match[bytes], message: bytes, urls: dict[bytes, str]) -> Frame | None:
    """The frame of a line that begins with a URL."""
    address, arrow, *parts, colon = found.groups()
    url, moment = address.decode(errors="replace"), _microseconds(*parts)
    if not colon:
        event = _EVENTS.get(arrow)
        return None if event is None else event(url, moment)
    match arrow:
        case b"<-":
            return Sent(url, moment, message)
        case b"->":
            return RestAnswer(url, moment, message)
        case b"<->" | b"<=>" | b">-<":
            return None
    try:
        carried = _CARRIED.decode(message)
    except (msgspec.DecodeError, UnicodeError):
        return None
    urls[arrow[1:]] = url
    return Named(url, moment, int(arrow[1:]), carried)


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
