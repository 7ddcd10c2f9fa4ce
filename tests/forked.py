"""Runs `deltatape …` in processes forked from one that has imported it all: their start is saved.

Reads one JSON array a line, `[arguments, environment, folder, file for stdout, file for stderr]`, and
answers each with two lines: the process's id at its start and its exit code at its end.
"""

import atexit
import gc
import importlib
import json
import os
import sys
from collections.abc import Callable
from typing import NoReturn

from deltatape.cli.app import VERBS, build, main

IMPORTED = (
    "backtest.run",
    "backtest.sweep",
    "collector.collect",
    "polars",
    "signals.compute",
    "signals.run",
    "storage.read",
    "storage.tables",
)


def become(arguments: list[str], environment: dict[str, str], folder: str, *outputs: str) -> None:
    """Make this process what `deltatape` would be, but for what is imported already."""
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    opened = [os.open(os.devnull, os.O_RDONLY)]
    opened += [os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600) for path in outputs]
    for target, source in enumerate(opened):
        os.dup2(source, target)
        os.close(source)
    sys.argv = ["deltatape", *arguments]


def end(program: Callable[[], None]) -> NoReturn:
    """Run a program and leave without taking down what was imported: that costs more than most programs."""
    code = 0
    try:
        program()
    except SystemExit as left:
        code = int(left.code or 0)
    finally:
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    build(VERBS)
    for each in IMPORTED:
        importlib.import_module(each)
    gc.freeze()
    while line := sys.stdin.readline():
        child = os.fork()
        if not child:
            become(*json.loads(line))
            end(main)
        sys.stdout.write(f"{child}\n")
        sys.stdout.flush()
        sys.stdout.write(f"{os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])}\n")
        sys.stdout.flush()
