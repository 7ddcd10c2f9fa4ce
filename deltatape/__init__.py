"""The composition root: settings, the command line, the daemon; nothing imports it.

`import deltatape as dt` is the research interface: `dt.trades`, `dt.candles`, … (see `deltatape.research`).
"""

from typing import Any


def __getattr__(name: str) -> Any:
    # Loaded when asked for: polars must not slow down the command line.
    from importlib import import_module

    research = import_module("deltatape.research")
    if name in research.__all__:
        return getattr(research, name)
    raise AttributeError(f"module 'deltatape' has no attribute {name!r}")
