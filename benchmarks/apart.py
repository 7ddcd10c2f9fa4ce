"""Work in a process of its own: nothing is warm there, and its memory is its own."""

import multiprocessing
import resource
import sys
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

spawn = multiprocessing.get_context("spawn")


def in_process(work: Callable[..., Any], *arguments: Any) -> Any:
    """What `work` gives in a fresh process."""
    ours, theirs = spawn.Pipe()
    process = spawn.Process(target=_tell, args=(theirs, work, arguments))
    process.start()
    # Its end is closed here, so that one that dies is noticed.
    theirs.close()
    try:
        return ours.recv()
    finally:
        process.join()


def _tell(pipe: Connection, work: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    pipe.send(work(*arguments))


def peak_memory() -> float:
    """The most memory that this process has held, in MB."""
    # Kilobytes, on macOS bytes.
    scale = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / scale
