"""An event that ends a command which works in threads: Ctrl-C, SIGTERM or a given time."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, Timer


@contextmanager
def stop_event(seconds: float | None) -> Iterator[Event]:
    """An event that Ctrl-C, SIGTERM or, where given, `seconds` of time set."""
    stop = Event()
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in before:
        signal.signal(number, lambda *_: stop.set())
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
