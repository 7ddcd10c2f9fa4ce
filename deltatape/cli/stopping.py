"""Ending in order: Ctrl-C and SIGTERM stop a command.

One that would run for ever has then done what it was asked to: its exit code is 0. One that would have ended
by itself was interrupted: its exit code is INTERRUPTED.
"""

import asyncio
import signal
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from threading import Event, Timer
from typing import Annotated, Any

import typer

from market import DeltatapeError

INTERRUPTED = 130
"""What shells expect of a command that Ctrl-C ended before its time."""
_TEN_YEARS = 3652 * 86_400.0

Seconds = Annotated[
    float | None, typer.Option("--for", min=0.1, max=_TEN_YEARS, help="Stop after so many seconds.")
]
"""The option of what runs until it is stopped, or for a while."""


class Stopped(DeltatapeError):
    """Ctrl-C or SIGTERM ended, in order, what would have ended by itself; the text says what is stored."""

    exit_code = INTERRUPTED


async def until_stopped(work: Coroutine[None, None, None]) -> bool:
    """Run `work` until it ends or is stopped, which cancels it; whether it ended by itself.

    Its failure is raised, one while it cleans up too.
    """
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    working, stopping = asyncio.create_task(work), asyncio.create_task(stop.wait())
    await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
    has_ended = working.done()
    for task in (working, stopping):
        task.cancel()
    (failure, _) = await asyncio.gather(working, stopping, return_exceptions=True)
    if isinstance(failure, Exception):
        raise failure
    return has_ended


@contextmanager
def stop_event(seconds: float | None) -> Iterator[Event]:
    """An event that Ctrl-C, SIGTERM or, where given, `seconds` of time set; a second Ctrl-C interrupts."""
    stop = Event()

    def ask(*_: Any) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in before:
        signal.signal(number, ask)
    timer = Timer(seconds, stop.set) if seconds is not None else None
    if timer is not None:
        timer.daemon = True
        timer.start()
    try:
        yield stop
    finally:
        if timer is not None:
            timer.cancel()
        for number, handler in before.items():
            signal.signal(number, handler)
