"""The composition root: settings, the command line, the daemon; nothing imports it.

`import deltatape as dt` is the research interface: `dt.trades`, `dt.candles`, … (see `deltatape.research`),
and `dt.backtest` (see `deltatape.backtests`).
"""

from typing import Any


def __getattr__(name: str) -> Any:
    # Loaded when asked for: polars must not slow down the command line, nor a backtest of arrays.
    from importlib import import_module
    from importlib.util import find_spec

    if find_spec(f"{__name__}.{name}") is not None:
        # `from deltatape import settings` asks here first, and must not load polars either.
        return import_module(f"{__name__}.{name}")
    for door in ("backtests", "research"):
        module = import_module(f"{__name__}.{door}")
        if name in module.__all__:
            return getattr(module, name)
    raise AttributeError(f"module 'deltatape' has no attribute {name!r}")


def __dir__() -> list[str]:
    # What a notebook offers.
    from importlib import import_module

    doors = (import_module(f"{__name__}.{door}") for door in ("backtests", "research"))
    return sorted({*globals(), *(name for door in doors for name in door.__all__)})
