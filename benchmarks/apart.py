"""Work in a process of its own: nothing is warm there, and its memory is its own."""

import multiprocessing
import resource
import sys
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
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
    if sys.platform == "darwin":
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    # What getrusage tells on Linux begins with what the parent held when this process was made.
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 2**10
