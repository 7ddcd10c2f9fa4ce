"""Recorded messages onto the tape: the same adapters and session as live, offline, as fast as it goes."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from collector import exchanges
from collector.recording import Damaged, EndedEarly, Frame, Opened, Received, RestAnswer, read
from collector.session import Session
from collector.writer import Writer, proof_of

MESSAGES_A_WRITE = 5_000
"""Messages between two writes: enough for the speed of COPY, few enough to keep memory flat."""


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
        _play(frames, session, writer, report, progress)
    finally:
        writer.close()
    report.counts = asdict(session.counts)
    report.shapes = session.shapes
    report.unresolved = sorted(session.unresolved)
    report.inexact = adapter.inexact
    return report


def _play(
    frames: Iterable[Frame],
    session: Session,
    writer: Writer,
    report: ReplayReport,
    progress: Callable[[int], Any],
) -> None:
    def write() -> None:
        batch = session.take()
        if len(batch):
            writer.write(batch)
        progress(session.counts.messages)

    unwritten = 0
    opened: set[str] = set()
    for frame in frames:
        match frame:
            case Received(t, message):
                # What the session asks for is in the recording, or is not to be had.
                session.message(message, t)
                unwritten += 1
            case RestAnswer(url, t, body):
                parts = urlsplit(url)
                session.rest(f"{parts.path}?{parts.query}" if parts.query else parts.path, body, t)
            case Opened(url):
                # A second connection beside the first breaks nothing; the same one again does.
                if url in opened:
                    session.disconnected()
                opened.add(url)
            case Damaged(number, reason, raw, t):
                session.damaged(raw, t, f"line {number}: {reason}")
            case EndedEarly(path, reason):
                report.ended_early.append(f"{path}: {reason}")
        if unwritten >= MESSAGES_A_WRITE:
            write()
            unwritten = 0
    session.disconnected()
    write()
