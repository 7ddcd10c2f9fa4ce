"""Recorded messages onto the tape: the same adapters and session as live, offline, as fast as it goes."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from collector import exchanges
from collector.exchanges.adapter import Stream
from collector.recording import (
    Carried,
    Damaged,
    EndedEarly,
    Frame,
    Lost,
    Moved,
    Named,
    Opened,
    Received,
    RestAnswer,
    read,
)
from collector.session import Session, TapeBatch
from collector.writer import Writer, proof_of

MESSAGES_A_WRITE = 5_000
"""Messages between two writes: enough for the speed of COPY, few enough to keep memory flat."""
_TRADES: frozenset[Stream] = frozenset(("trades",))


@dataclass(slots=True)
class ReplayReport:
    """What a replay found. `counts` is what `deltatape replay` prints; the rest is said to the user."""

    counts: dict[str, int] = field(default_factory=dict)
    shapes: dict[str, int] = field(default_factory=dict)
    unresolved: list[str] = field(default_factory=list)
    inexact: int = 0
    ended_early: list[str] = field(default_factory=list)


def replay(
    files: Sequence[Path],
    exchange: str,
    url: str,
    progress: Callable[[int], Any] = lambda _: None,
) -> ReplayReport:
    """Write what `files` recorded of `exchange` into the database at `url`.

    Websocket and REST files of one session belong together: they are merged by time. Doing it again changes
    no row.

    Args:
        files: recordings, plain or gzip.
        exchange: the exchange's id.
        url: the database.
        progress: called now and then with the number of messages so far.

    Raises:
        WrongUse: the exchange is unknown, or a file has no readable message; nothing was written.
        Unavailable: the database is missing.
    """
    adapter = exchanges.find(exchange)
    session = Session(adapter)
    report = ReplayReport()
    frames = read(files)
    writer = Writer(url, exchange, origin="replay", proof=proof_of(adapter))
    try:
        play(frames, session, writer.write, report, progress)
    finally:
        writer.close()
    report.counts = asdict(session.counts)
    report.shapes = session.shapes
    report.unresolved = sorted(session.unresolved)
    report.inexact = adapter.inexact
    return report


def play(
    frames: Iterable[Frame],
    session: Session,
    keep: Callable[[TapeBatch], object],
    report: ReplayReport,
    progress: Callable[[int], Any],
) -> None:
    """Let a session hear a recording, and give what it makes of it to `keep`, part by part."""

    def write() -> None:
        batch = session.take()
        if len(batch):
            keep(batch)
        progress(session.counts.messages)

    unwritten = 0
    wires = _Wires(session)
    for frame in frames:
        match frame:
            case Received():
                wires.received(frame)
                unwritten += 1
            case RestAnswer(url, t, body):
                session.rest(_path(url), body, t)
            case Named() | Opened() | Moved() | Lost():
                wires.tell(frame)
            case Damaged(number, reason, raw, t):
                session.damaged(raw, t, f"line {number}: {reason}")
            case EndedEarly(path, reason):
                report.ended_early.append(f"{path}: {reason}")
        if unwritten >= MESSAGES_A_WRITE:
            write()
            unwritten = 0
    session.disconnected()
    write()


class _Wires:
    """The connections of a recording, as far as it tells them apart, and what a session hears of them."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._opened: set[str] = set()
        self._carried: dict[str, Carried] = {}
        self._paths: dict[str, str] = {}

    def received(self, frame: Received) -> None:
        """A message: what the session asks for is in the recording, or is not to be had."""
        carried = self._carried.get(frame.url)
        if carried is None:
            self._session.message(frame.message, frame.t)
            return
        streams = carried.streams & _TRADES if frame.is_beside else carried.streams
        self._session.message(frame.message, frame.t, self._paths[frame.url], streams)

    def tell(self, frame: Named | Opened | Moved | Lost) -> None:
        """What happened to a connection."""
        match frame:
            case Named(url=url, carried=carried):
                self._carried[url] = carried
                self._paths[url] = _path(url)
            case Opened(url=url):
                # A second connection beside the first breaks nothing; the same one again does.
                if url in self._opened or url in self._carried:
                    self._disconnect(url)
                self._opened.add(url)
            case Lost(url=url):
                self._disconnect(url)
            case Moved(url=url) if (moved := self._carried.get(url)) and "book" in moved.streams:
                self._session.moved(self._known(moved), "reconnected")

    def _disconnect(self, url: str) -> None:
        if carried := self._carried.get(url):
            self._session.disconnected(self._known(carried), carried.streams)
        else:
            self._session.disconnected()

    def _known(self, carried: Carried) -> list[str]:
        """Those symbols of which anything came."""
        return [symbol for symbol in carried.symbols if symbol in self._session.streams]


def _path(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.path}?{parts.query}" if parts.query else parts.path
