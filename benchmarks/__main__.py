"""`python -m benchmarks`: run one by name."""

import importlib
import json
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from benchmarks import Figures

BENCHMARKS = {
    "alerts": "benchmarks.alerts",
    "backtest": "benchmarks.backtest",
    "kernel": "benchmarks.kernel",
    "collect": "benchmarks.collect",
    "latest": "benchmarks.latest",
    "month": "benchmarks.month",
    "live": "benchmarks.live",
    "peers": "benchmarks.peers",
    "read": "benchmarks.read",
    "replay": "benchmarks.replay",
    "runs": "benchmarks.runs",
    "signals": "benchmarks.signals",
    "telegram": "benchmarks.telegram",
    "write": "benchmarks.write",
}
"""Each benchmark's name and the module whose `run() -> Figures` it is."""


def main(arguments: list[str]) -> int:
    """Run the benchmark that is named, or each, and print the figures; 2 where none has that name."""
    names = [argument for argument in arguments if argument != "--json"]
    if any(name not in BENCHMARKS for name in names):
        known = "|".join(BENCHMARKS)
        print(f"usage: python -m benchmarks [{known}] [--json]", file=sys.stderr)
        return 2
    figures: Figures = [
        figure for name in names or BENCHMARKS for figure in importlib.import_module(BENCHMARKS[name]).run()
    ]
    if "--json" in arguments:
        print(json.dumps([figure.plain() for figure in figures]))
        return 0
    width = max((len(figure.what) for figure in figures), default=0)
    for figure in figures:
        bound = "" if figure.ratio is None else f"   {figure.ratio:.2f} × the bound of {figure.bound:,.4g}"
        print(f"{figure.what:<{width}}  {figure.value:>12,.4g} {figure.unit}{bound}")
    return 0


sys.exit(main(sys.argv[1:]))
