"""A disk spool: batches that the database does not take now, in order, for as long as there is room."""

import fcntl
import logging
import os
import struct
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO
from uuid import uuid4

import msgspec

from collector.session import TapeBatch
from market import Unavailable

log = logging.getLogger(__name__)

SEGMENT_BYTES = 8 * 1024 * 1024
_SUFFIX = ".spool"
_HEAD = struct.Struct("!II")
_FIRST = 1_000_000_000

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(TapeBatch).decode


class SpoolFull(Unavailable):
    """There is no room for the batch, on the disk or within the configured size; nothing of it was kept."""


class Spool:
    """A queue of batches in a folder of its own, which nobody else uses while this object has it locked.

    A segment file holds records: length, CRC32, a batch as MessagePack. One that was cut short by a kill ends
    at its last whole record. The order is that of the files' names, then within them.

    Args:
        folder: is made when the first batch comes.
        max_bytes: what the files may take together.
    """

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self.folder = folder
        self._max_bytes = max_bytes
        self._lock: BinaryIO | None = None
        self._segments: list[int] = []
        self._sizes: dict[int, int] = {}
        self._writing: BinaryIO | None = None
        self._taken = self._taken_to = 0
        self._read_until: dict[int, int] = {}
        self.batches = 0
        """Batches in it."""
        if folder.is_dir():
            self._acquire()
            self._survey()

    @property
    def size(self) -> int:
        """Bytes that its files take on disk."""
        return sum(self._sizes.values())

    def __bool__(self) -> bool:
        return self.batches > 0

    # Putting in

    def append(self, batch: TapeBatch) -> None:
        """Put a batch behind all others, on the disk when this returns.

        Raises:
            SpoolFull: there is no room.
        """
        number = self._segments[-1] if self._segments else _FIRST
        if self._writing is None or self._sizes.get(number, 0) >= SEGMENT_BYTES:
            number = number + 1 if self._segments else _FIRST
        self._put(number, batch)

    def put_first(self, batch: TapeBatch) -> None:
        """Put a batch before all others: it was taken from the front and could not be written.

        Raises:
            SpoolFull: there is no room.
        """
        if not self._segments:
            return self.append(batch)
        self._close_writing()
        number = self._segments[0] - 1
        self._put(number, batch)
        self._close_writing()
        return None

    def _put(self, number: int, batch: TapeBatch) -> None:
        data = _encode(batch)
        record = _HEAD.pack(len(data), zlib.crc32(data)) + data
        if self.size + len(record) > self._max_bytes:
            raise SpoolFull(f"the spool {self.folder} is full: {self.size:,} of {self._max_bytes:,} bytes")
        if self._lock is None:
            self._acquire()
        try:
            if number not in self._sizes or self._writing is None:
                self._close_writing()
                self._writing = (self.folder / f"{number}{_SUFFIX}").open("ab")
                self._sizes.setdefault(number, 0)
                self._segments = sorted(self._sizes)
            before = self._writing.tell()
            self._write(record, before)
        except OSError as error:
            raise SpoolFull(f"cannot write the spool {self.folder}: {error.strerror}") from None
        self._sizes[number] = before + len(record)
        self.batches += 1

    def _write(self, record: bytes, before: int) -> None:
        file = self._writing
        assert file is not None  # noqa: S101 - opened by the caller
        try:
            file.write(record)
            file.flush()
            os.fdatasync(file.fileno())
        except OSError:
            # A part of a record must not stand before the next one.
            with suppress(OSError):
                os.ftruncate(file.fileno(), before)
            self._writing = None
            with suppress(OSError):
                file.close()
            raise

    # Taking out

    def first(self, rows: int) -> TapeBatch | None:
        """The oldest batches of one segment, as one of about `rows` rows; they stay until `drop`."""
        while self._segments:
            number = self._segments[0]
            found: TapeBatch | None = None
            self._taken, self._taken_to = 0, self._read_until.get(number, 0)
            for data, end in _records(self.folder / f"{number}{_SUFFIX}", self._taken_to):
                try:
                    batch = _decode(data)
                except msgspec.ValidationError as error:
                    log.warning("%s: a batch cannot be read and is left out: %s", self.folder, error)
                    continue
                if found is None:
                    found = batch
                else:
                    found.extend(batch)
                self._taken, self._taken_to = self._taken + 1, end
                if len(found) >= rows:
                    break
            if found is not None:
                return found
            self._end_segment(number)
        return None

    def drop(self) -> None:
        """What `first` gave was written: it is needed no more."""
        number = self._segments[0]
        self._read_until[number] = self._taken_to
        self.batches -= self._taken
        if self._taken_to >= self._sizes[number]:
            self._end_segment(number)

    def _end_segment(self, number: int) -> None:
        if number == self._segments[-1]:
            self._close_writing()
        (self.folder / f"{number}{_SUFFIX}").unlink(missing_ok=True)
        self._sizes.pop(number)
        self._segments.pop(0)
        self._read_until.pop(number, None)
        if not self._segments:
            self.batches = 0

    # The folder

    def close(self) -> None:
        """Give the folder back; one that holds nothing goes."""
        self._close_writing()
        if self._lock is not None:
            if not self._segments:
                with suppress(OSError):
                    (self.folder / "lock").unlink(missing_ok=True)
                    self.folder.rmdir()
            self._lock.close()
            self._lock = None

    def _acquire(self) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            lock = (self.folder / "lock").open("ab")
        except OSError as error:
            raise SpoolFull(f"cannot make the spool {self.folder}: {error.strerror}") from None
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.close()
            raise SpoolFull(f"the spool {self.folder} is in use") from None
        self._lock = lock

    def _survey(self) -> None:
        for path in self.folder.glob(f"*{_SUFFIX}"):
            if path.stem.isdecimal():
                number = int(path.stem)
                self._sizes[number] = path.stat().st_size
                self.batches += sum(1 for _ in _records(path, 0))
        self._segments = sorted(self._sizes)

    def _close_writing(self) -> None:
        if self._writing is not None:
            with suppress(OSError):
                self._writing.close()
            self._writing = None


def _records(path: Path, offset: int) -> Iterator[tuple[bytes, int]]:
    """(data, offset after it) of each whole and sound record from `offset` on."""
    with path.open("rb") as file:
        file.seek(offset)
        while len(head := file.read(_HEAD.size)) == _HEAD.size:
            length, checksum = _HEAD.unpack(head)
            data = file.read(length)
            if len(data) < length:
                return
            if zlib.crc32(data) != checksum:
                log.warning("%s: a batch is damaged and is left out", path)
                continue
            yield data, file.tell()


def own_spool(parent: Path, max_bytes: int) -> Spool:
    """A new spool for one process, in a folder of its own under `parent`."""
    return Spool(parent / uuid4().hex[:12], max_bytes)


def left_behind(parent: Path, max_bytes: int) -> Iterator[Spool]:
    """The spools under `parent` whose processes are gone; whoever takes one drains and closes it."""
    if not parent.is_dir():
        return
    for folder in sorted(parent.iterdir()):
        if folder.is_dir():
            with suppress(SpoolFull):
                yield Spool(folder, max_bytes)
