"""Equity drawn: a PNG by matplotlib, and letters in the terminal by plotext."""

from __future__ import annotations

from io import BytesIO
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from market.timeframe import to_datetime

if TYPE_CHECKING:
    from backtest.batch import Floats, Integers

_SHOWN = 2_000
"""More points than this a picture of this width cannot show."""


def thin(timestamp: Integers, values: Floats, most: int = _SHOWN) -> tuple[Integers, Floats]:
    """At most about `most` points with the same outline: each stretch's lowest and highest, in order."""
    if len(values) <= most:
        return timestamp, values
    edges = np.linspace(0, len(values), most // 2 + 1).astype(np.int64)
    kept = {0, len(values) - 1}
    for start, stop in pairwise(edges):
        part = values[start:stop]
        kept.update((start + int(part.argmin()), start + int(part.argmax())))
    chosen = np.array(sorted(kept))
    return timestamp[chosen], values[chosen]


def equity_png(title: str, timestamp: Integers, equity: Floats) -> bytes:
    """Draw equity above its drawdown: the bytes of a PNG file.

    Args:
        title: what it shows.
        timestamp: of the points, microseconds UTC.
        equity: at the points.
    """
    from matplotlib import dates
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    peak = np.maximum.accumulate(equity)
    times, shown = thin(timestamp, equity)
    below_times, below = thin(timestamp, 100.0 * (equity / peak - 1.0))
    figure = Figure(figsize=(11, 6), layout="constrained")
    FigureCanvasAgg(figure)
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    top.plot(times.astype("datetime64[us]"), shown, color="#1f5fa8", linewidth=1.1)
    top.axhline(equity[0], color="#999999", linewidth=0.8, linestyle=":")
    top.set_title(title, loc="left", fontsize=11)
    top.set_ylabel("equity")
    top.yaxis.set_major_formatter("{x:,.6g}")
    below_at = below_times.astype("datetime64[us]")
    bottom.fill_between(below_at, below, 0, color="#c0392b", alpha=0.45, linewidth=0)
    bottom.set_ylabel("drawdown, %")
    untyped: Any = dates
    locator = untyped.AutoDateLocator()
    bottom.xaxis.set_major_locator(locator)
    bottom.xaxis.set_major_formatter(untyped.ConciseDateFormatter(locator))
    bottom.set_xlabel("UTC")
    for axes in (top, bottom):
        axes.grid(visible=True, color="#dddddd", linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
        axes.margins(x=0.01)
    data = BytesIO()
    figure.savefig(data, format="png", dpi=120)
    return data.getvalue()


def equity_text(timestamp: Integers, equity: Floats, width: int = 96, height: int = 16) -> str:
    """Equity drawn with letters, without colours, for a terminal at least this wide."""
    import plotext

    times, shown = thin(timestamp, equity, 2 * width)
    figure: Any = plotext.figure
    figure.clear()
    plotext.terminal.limit(width=False, height=False)
    figure.plot_size(width, height)
    figure.draw(figure.signal(times.tolist(), shown.tolist(), marker="braille").lines())
    marks = np.linspace(timestamp[0], timestamp[-1], 5).astype(np.int64).tolist()
    figure.ruler("x").ticks(marks, [f"{to_datetime(mark):%m-%d %H:%M}" for mark in marks])
    levels = np.linspace(shown.min(), shown.max(), 5).tolist()
    figure.ruler("y").ticks(levels, [f"{level:,.6g}" for level in levels])
    text: str = plotext.uncolorize(str(figure.build()))
    return text
