"""Keeps what an exchange says, as it was said: raw messages into files that `deltatape replay` reads back.

The lines are those of `collector.recording`. A file is a row of gzip members, one a flush: `zcat` reads it,
and of a file that was cut by a kill everything up to its last flush.
"""

import contextlib
import gzip
import logging
import os
from collections import deque
from collections.abc import Collection
from io import FileIO
from pathlib import Path
from threading import Event, Thread

import msgspec
from msgspec import structs

from collector.exchanges.adapter import Stream
from collector.recording import Carried, Lost, Moved, Named, Opened, Received, RestAnswer, Sent
from market import MICROSECONDS, WrongUse
from market.timeframe import to_datetime

log = logging.getLogger(__name__)

MAX_BYTES = 256 * 1024 * 1024
"""Bytes of a file, compressed, after which the next one begins."""
FLUSH_SECONDS = 0.5
CLOSE_SECONDS = 10.0
"""What the disk gets at the end to take what is left."""
MEMBER_BYTES = 1024 * 1024
"""Bytes of one gzip member before compression, about."""
MAX_WAITING = 64 * 1024 * 1024
"""Bytes that wait for the disk; one that falls further behind ends the recording."""
MAX_HELD = 1000
"""Lines that wait for a first message, without which a file is no recording."""
_LEVEL = 6
_HOUR = 3600 * MICROSECONDS

RecordedFrame = Opened | Sent | Received | RestAnswer | Named | Moved | Lost
_json = msgspec.json.Encoder(order="deterministic").encode


class Recorder:
    """Records one exchange into `<exchange>-<UTC time>.rec.gz` files, whose names sort by time.

    Its methods only take note, from one thread; a thread of its own compresses and writes. When the disk does
    not take any more, recording ends with one warning (`failure` says why) and whoever collects goes on.

    Args:
        folder: where the files go; made if it is missing.
        exchange: the exchange's id.
        max_bytes: of a file, about; a new hour begins a new one too.

    Raises:
        WrongUse: nothing can be written into `folder`.
    """

    def __init__(self, folder: Path, exchange: str, *, max_bytes: int = MAX_BYTES) -> None:
        self.messages = 0
        """Messages and answers taken."""
        self.files: list[Path] = []
        """Every file written, oldest first."""
        self.failure: str | None = None
        """Why recording ended before it was closed."""
        self._folder = folder
        self._exchange = exchange
        self._max_bytes = max_bytes
        self._waiting: deque[tuple[RecordedFrame, int]] = deque()
        self._taken = self._done = 0
        self._lines: list[bytes] = []
        self._size = 0
        self._named: dict[str, Named] = {}
        self._first = 0
        self._has_message = False
        self._is_full = False
        self._file: FileIO | None = None
        self._hour = 0
        self._wake = Event()
        self._is_closing = False
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise WrongUse(f"{folder}: cannot be made: {error.strerror}") from None
        if not os.access(folder, os.W_OK | os.X_OK):
            raise WrongUse(f"{folder}: nothing can be written there")
        self._thread = Thread(target=self._work, name=f"record {exchange}", daemon=True)
        self._thread.start()

    # What happens, as the feed tells it

    def named(self, url: str, t: int, symbols: Collection[str], streams: frozenset[Stream]) -> None:
        """There is a connection to `url`, which carries `streams` of `symbols`.

        Messages of connections that were not named are kept without saying which one they came over.
        """
        self._take(Named(url, t, 0, Carried(tuple(symbols), streams)), 0)

    def opened(self, url: str, t: int) -> None:
        """The connection to `url` was opened at `t` (microseconds UTC, as every `t`)."""
        self._take(Opened(url, t), 0)

    def sent(self, url: str, t: int, text: str) -> None:
        """We sent `text` over the connection to `url`."""
        self._take(Sent(url, t, text.encode()), len(text))

    def moved(self, url: str, t: int) -> None:
        """A second socket to `url` took over from the first."""
        self._take(Moved(url, t), 0)

    def closed(self, url: str, t: int) -> None:
        """The connection to `url` was lost."""
        self._take(Lost(url, t), 0)

    def received(self, url: str, t: int, message: bytes, *, is_beside: bool = False) -> None:
        """The exchange sent `message` over the connection to `url`, or over a second socket beside it."""
        self.messages += 1
        self._take(Received(t, message, url, is_beside), len(message))

    def answered(self, url: str, t: int, body: bytes) -> None:
        """The exchange answered a GET of `url` with `body`."""
        self.messages += 1
        self._take(RestAnswer(url, t, body), len(body))

    def close(self) -> None:
        """Write what is left and end."""
        self._is_closing = True
        self._wake.set()
        self._thread.join(CLOSE_SECONDS)
        if self._thread.is_alive():
            self._fail("the disk does not take what is left")

    def _take(self, frame: RecordedFrame, size: int) -> None:
        if self.failure is not None:
            return
        self._waiting.append((frame, size + 1))
        # Each of the two counts is written by one thread only, so neither needs a lock.
        self._taken += size + 1
        waiting = self._taken - self._done
        if waiting > MAX_WAITING:
            self._fail("the disk is too slow")
        elif waiting > MEMBER_BYTES:
            self._wake.set()

    def _fail(self, reason: str) -> None:
        if self.failure is None:
            self.failure = reason
            log.warning("%s is not recorded any more: %s: %s", self._exchange, self._folder, reason)

    # The thread that writes

    def _work(self) -> None:
        try:
            while not self._is_closing and self.failure is None:
                self._wake.wait(FLUSH_SECONDS)
                self._wake.clear()
                self._drain()
            self._drain()
        except OSError as error:
            self._fail(error.strerror or str(error))
        finally:
            self._waiting.clear()
            with contextlib.suppress(OSError):
                self._close_file()

    def _drain(self) -> None:
        while self._waiting and self.failure is None:
            frame, size = self._waiting.popleft()
            self._done += size
            is_message = isinstance(frame, Received | RestAnswer)
            # Only a message begins a file: what is said after the last one stays with it.
            if is_message and self._is_of_file() and (self._is_full or frame.t // _HOUR > self._hour):
                self._write()
                self._close_file()
            if not self._is_of_file():
                self._hour = frame.t // _HOUR
            if isinstance(frame, Named):
                frame = self._number(frame)
                if self._file is None:
                    continue  # it will stand at the beginning of the file
            if not self._lines:
                self._first = frame.t
            self._has_message = self._has_message or is_message
            self._add(frame)
            if self._size >= MEMBER_BYTES:
                self._write()
        self._write()

    def _add(self, frame: RecordedFrame) -> None:
        named = self._named.get(frame.url) if isinstance(frame, Received) else None
        line = line_of(frame, named.number if named else None)
        self._lines.append(line)
        self._size += len(line)

    def _number(self, frame: Named) -> Named:
        """The same with the connection's number, which it keeps."""
        before = self._named.get(frame.url)
        number = before.number if before else len(self._named) + 1
        self._named[frame.url] = structs.replace(frame, number=number)
        return self._named[frame.url]

    def _is_of_file(self) -> bool:
        """Whether what waits belongs to a file, be it that it is not there yet."""
        return self._file is not None or self._has_message

    def _write(self) -> None:
        """Put the lines on the disk as one gzip member; those without a message among them wait for one."""
        if self._file is None and not self._has_message:
            del self._lines[:-MAX_HELD]
            return
        if not self._lines:
            return
        file = self._file
        if file is None:
            # Every file says for itself which connections its numbers stand for.
            names = [structs.replace(named, t=self._first) for named in self._named.values()]
            self._lines[:0] = map(line_of, names)
            file = self._open_file()
        member = memoryview(gzip.compress(b"".join(self._lines), _LEVEL))
        whole = file.tell()
        try:
            while member:
                member = member[file.write(member) :]
        except OSError:
            # Half a member would end the file early for whoever reads it.
            file.truncate(whole)
            raise
        self._lines.clear()
        self._size = 0
        self._is_full = file.tell() >= self._max_bytes

    def _open_file(self) -> FileIO:
        time = self._first
        while self._file is None:
            path = self._folder / f"{self._exchange}-{to_datetime(time):%Y%m%dT%H%M%S.%fZ}.rec.gz"
            try:
                self._file = FileIO(path, "xb")
            except FileExistsError:
                time += 1
            else:
                self.files.append(path)
        return self._file

    def _close_file(self) -> None:
        if self._file is None:
            return
        is_empty = not os.fstat(self._file.fileno()).st_size
        self._file.close()
        self._file = None
        self._has_message = self._is_full = False
        if is_empty:
            self.files.pop().unlink()


def line_of(frame: RecordedFrame, number: int | None = None) -> bytes:
    """The line that `collector.recording` reads as this frame; `number` is that of a message's connection."""
    time = b"%d.%06d" % divmod(frame.t, MICROSECONDS)
    match frame:
        case Received(message=message, is_beside=is_beside):
            plus = b"+" if is_beside else b""
            name = b"" if number is None else b" %d%b" % (number, plus)
            return b"%b%b: %b\n" % (time, name, _in_one_line(message))
        case Opened(url=url):
            return b"%b <-> %b\n" % (url.encode(), time)
        case Moved(url=url):
            return b"%b <=> %b\n" % (url.encode(), time)
        case Lost(url=url):
            return b"%b >-< %b\n" % (url.encode(), time)
        case Named(url=url, carried=carried):
            return b"%b =%d %b: %b\n" % (url.encode(), frame.number, time, _json(carried))
        case Sent(url=url, message=message):
            return b"%b <- %b: %b\n" % (url.encode(), time, _in_one_line(message))
        case RestAnswer(url=url, body=body):
            return b"%b -> %b: %b\n" % (url.encode(), time, _in_one_line(body))


def _in_one_line(message: bytes) -> bytes:
    """`message` itself where it is one line of text, else as a Python bytes literal."""
    is_plain = b"\n" not in message and b"\r" not in message and not message.startswith((b"b'", b'b"'))
    if is_plain and not message.isascii():
        try:
            message.decode()
        except UnicodeDecodeError:
            is_plain = False
    return message if is_plain else repr(message).encode()
