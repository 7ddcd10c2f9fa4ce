"""Pictures for chats: candles with their CVD and delta, dark or light; a PNG's bytes each.

Drawn by Agg on a figure of its own, without pyplot and its state. One is drawn at a time: what matplotlib
keeps of its fonts is no thread's own.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from io import BytesIO
from threading import Lock
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from market.timeframe import DAY, to_datetime

if TYPE_CHECKING:
    import polars as pl
    from numpy.typing import NDArray

Theme = Literal["dark", "light"]
_WIDE, _TALL, _DPI = 9.0, 6.2, 120
_BODY = 0.68
"""A candle's share of the room between two opens."""
_drawing = Lock()


@dataclass(frozen=True, slots=True)
class _Colours:
    ground: str
    ink: str
    faint: str
    grid: str
    up: str
    down: str
    line: str
    hole: str


_THEMES = {
    "dark": _Colours("#12161c", "#e6e9ee", "#8b94a3", "#232a33", "#2fb68a", "#e5534b", "#5aa2f0", "#3a3320"),
    "light": _Colours("#ffffff", "#1c232d", "#6b7482", "#e8ebef", "#12936a", "#cf3a34", "#1f6fc4", "#fbf1d3"),
}


@dataclass(frozen=True, slots=True)
class Mark:
    """A candle to point at.

    Attributes:
        timestamp: when, microseconds UTC: the close of the candle meant.
        label: one or two words.
        is_up: whether it speaks for buying, or for selling; None: neither.
    """

    timestamp: int
    label: str
    is_up: bool | None


@dataclass(frozen=True, slots=True)
class _Bars:
    """Candles in days since 1970, as matplotlib counts time."""

    at: NDArray[np.float64]
    width: float
    open: NDArray[np.float64]
    high: NDArray[np.float64]
    low: NDArray[np.float64]
    close: NDArray[np.float64]
    delta: NDArray[np.float64]

    @property
    def is_up(self) -> NDArray[np.bool_]:
        return self.close >= self.open


def warm_up() -> None:
    """Load what drawing needs, so that the first picture takes no longer than any other."""
    for name in ("backends.backend_agg", "dates", "figure", "font_manager"):
        import_module(f"matplotlib.{name}")


def candles_png(
    title: str, candles: pl.DataFrame, length: int, *, theme: Theme = "dark", mark: Mark | None = None
) -> bytes:
    """Draw candles above the CVD since the first of them and each candle's delta: the bytes of a PNG file.

    Where candles are missing the ground is shaded, and the CVD goes on at the value that it had.

    Args:
        title: what it shows.
        candles: as `storage.read.candles` gives them; one at least.
        length: of a candle, microseconds.
        theme: which colours.
        mark: a candle to point at.
    """
    colours = _THEMES[theme]
    bars = _bars(candles, length)
    with _drawing:
        return _drawn(title, bars, colours, mark)


def _bars(candles: pl.DataFrame, length: int) -> _Bars:
    opened = candles["timestamp"].to_physical().to_numpy().astype(np.float64)
    price = {name: candles[name].to_numpy() for name in ("open", "high", "low", "close")}
    # Candles of others have no sides: they tell nothing of the CVD.
    buys, sells = (candles[name].fill_null(0.0).to_numpy() for name in ("buy_volume", "sell_volume"))
    return _Bars(at=(opened + length / 2) / DAY, width=length / DAY, **price, delta=buys - sells)


def _drawn(title: str, bars: _Bars, colours: _Colours, mark: Mark | None) -> bytes:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(_WIDE, _TALL), facecolor=colours.ground)
    FigureCanvasAgg(figure)
    right = _right(bars)
    figure.subplots_adjust(left=0.025, right=right, top=0.885, bottom=0.065, hspace=0.06)
    price, cvd, delta = figure.subplots(3, 1, sharex=True, height_ratios=(4.2, 1.6, 1.0))
    for axes in (price, cvd, delta):
        _style(axes, colours)
        _shade_holes(axes, bars, colours)
    _draw_price(price, bars, colours, mark)
    _draw_cvd(cvd, bars, colours)
    _draw_delta(delta, bars, colours)
    _time_axis(delta, bars)
    _head(figure, title, bars, colours, right)
    data = BytesIO()
    figure.savefig(data, format="png", dpi=_DPI, facecolor=colours.ground)
    return data.getvalue()


def _style(axes: Any, colours: _Colours) -> None:
    axes.set_facecolor(colours.ground)
    axes.grid(visible=True, color=colours.grid, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[:].set_visible(False)
    axes.yaxis.tick_right()
    axes.tick_params(axis="both", length=0, labelsize=8.5, colors=colours.faint)
    axes.yaxis.set_major_formatter(lambda value, _: _number(value))


def _shade_holes(axes: Any, bars: _Bars, colours: _Colours) -> None:
    steps = np.diff(bars.at)
    for index in np.flatnonzero(steps > 1.5 * bars.width):
        begin, end = bars.at[index] + bars.width / 2, bars.at[index + 1] - bars.width / 2
        axes.axvspan(begin, end, color=colours.hole, linewidth=0, zorder=0.5)


def _draw_price(axes: Any, bars: _Bars, colours: _Colours, mark: Mark | None) -> None:
    for is_up, colour in ((bars.is_up, colours.up), (~bars.is_up, colours.down)):
        axes.vlines(bars.at[is_up], bars.low[is_up], bars.high[is_up], color=colour, linewidth=0.9)
        bottom = np.minimum(bars.open, bars.close)[is_up]
        body = np.abs(bars.close - bars.open)[is_up]
        # A candle that closed where it opened is a stroke.
        axes.bar(
            bars.at[is_up],
            body,
            _BODY * bars.width,
            bottom,
            color=colour,
            edgecolor=colour,
            linewidth=0.7,
        )
    low, high = float(bars.low.min()), float(bars.high.max())
    room = (high - low) or abs(high) * 0.001
    # A mark has its label below, or above, the candle.
    axes.set_ylim(
        low - (0.10 if mark is None else 0.17) * room, high + (0.10 if mark is None else 0.17) * room
    )
    if mark is not None:
        _draw_mark(axes, bars, colours, mark, room)
    last = float(bars.close[-1])
    colour = colours.up if bars.is_up[-1] else colours.down
    axes.axhline(last, color=colour, linewidth=0.8, linestyle=(0, (4, 3)))
    _tag(axes, last, colour, colours)


def _draw_mark(axes: Any, bars: _Bars, colours: _Colours, mark: Mark, room: float) -> None:
    at = mark.timestamp / DAY - bars.width / 2
    index = int(np.abs(bars.at - at).argmin())
    is_below = mark.is_up is not False
    colour = colours.line if mark.is_up is None else colours.up if mark.is_up else colours.down
    height = float(bars.low[index] - 0.035 * room if is_below else bars.high[index] + 0.035 * room)
    axes.scatter([bars.at[index]], [height], marker="^" if is_below else "v", s=70, color=colour, zorder=4)
    # Near an edge the label leans inwards.
    share = (index + 0.5) / len(bars.at)
    axes.annotate(
        _plain(mark.label),
        (bars.at[index], height),
        xytext=(0, -14 if is_below else 14),
        textcoords="offset points",
        ha="left" if share < 0.1 else "right" if share > 0.9 else "center",
        va="center",
        fontsize=9,
        fontweight="bold",
        color=colour,
        bbox={"boxstyle": "round,pad=0.15", "facecolor": colours.ground, "edgecolor": "none", "alpha": 0.8},
        zorder=4,
        parse_math=False,
    )


def _tag(axes: Any, value: float, colour: str, colours: _Colours, digits: int = 7) -> None:
    """A value's label on the right edge, where no number of the axis is under it."""
    low, high = axes.get_ylim()
    near = 22 / 72 / (axes.get_position().height * _TALL) * (high - low) / 2
    axes.yaxis.set_major_formatter(lambda each, _: "" if abs(each - value) < near else _number(each))
    axes.annotate(
        _number(value, digits),
        (1, value),
        xycoords=("axes fraction", "data"),
        xytext=(4, 0),
        textcoords="offset points",
        va="center",
        fontsize=8.5,
        fontweight="bold",
        color=colours.ground,
        bbox={"boxstyle": "round,pad=0.25", "facecolor": colour, "edgecolor": "none"},
        zorder=5,
    )


def _draw_cvd(axes: Any, bars: _Bars, colours: _Colours) -> None:
    cvd = np.cumsum(bars.delta)
    axes.axhline(0, color=colours.faint, linewidth=0.6)
    axes.plot(bars.at, cvd, color=colours.line, linewidth=1.5, solid_joinstyle="round")
    axes.fill_between(bars.at, cvd, 0, color=colours.line, alpha=0.14, linewidth=0)
    axes.margins(y=0.15)
    _name(axes, "CVD over this span", colours)
    _tag(axes, float(cvd[-1]), colours.line, colours, digits=4)


def _draw_delta(axes: Any, bars: _Bars, colours: _Colours) -> None:
    colour = np.where(bars.delta >= 0, colours.up, colours.down)
    axes.bar(bars.at, bars.delta, _BODY * bars.width, color=colour, linewidth=0)
    axes.axhline(0, color=colours.faint, linewidth=0.6)
    axes.margins(y=0.2)
    axes.yaxis.get_major_locator().set_params(nbins=3)
    _name(axes, "delta: buys less sells", colours)


def _name(axes: Any, text: str, colours: _Colours) -> None:
    axes.text(
        0.006,
        0.93,
        text,
        transform=axes.transAxes,
        ha="left",
        va="top",
        fontsize=8,
        color=colours.faint,
        bbox={"boxstyle": "round,pad=0.15", "facecolor": colours.ground, "edgecolor": "none", "alpha": 0.75},
        zorder=4,
    )


def _time_axis(axes: Any, bars: _Bars) -> None:
    from matplotlib import dates

    untyped: Any = dates
    locator = untyped.AutoDateLocator(minticks=4, maxticks=9)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(untyped.ConciseDateFormatter(locator, show_offset=False))
    axes.set_xlim(bars.at[0] - 0.8 * bars.width, bars.at[-1] + 1.2 * bars.width)


def _right(bars: _Bars) -> float:
    """The share of the width that is left of the numbers, which may be long."""
    longest = max(
        len(_number(float(value), 7)) for value in (bars.close[-1], bars.high.max(), bars.low.min())
    )
    return 1 - 0.0265 - 0.0081 * max(longest, 9)


def _head(figure: Any, title: str, bars: _Bars, colours: _Colours, right: float) -> None:
    change = 100 * (bars.close[-1] / bars.open[0] - 1)
    begin, end = (
        to_datetime(round(at * DAY)) for at in (bars.at[0] - bars.width / 2, bars.at[-1] + bars.width / 2)
    )
    span = f"{begin:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M} UTC"
    colour = colours.up if change >= 0 else colours.down
    left = 0.03
    figure.text(
        left, 0.955, _plain(title), fontsize=14, fontweight="bold", color=colours.ink, parse_math=False
    )
    figure.text(left, 0.908, span, fontsize=9, color=colours.faint)
    figure.text(
        right,
        0.955,
        _number(float(bars.close[-1]), 7),
        fontsize=14,
        fontweight="bold",
        color=colours.ink,
        ha="right",
    )
    figure.text(right, 0.908, f"{change:+.2f}%", fontsize=10, fontweight="bold", color=colour, ha="right")


def _number(value: float, digits: int = 6) -> str:
    """Short enough for an axis: so many digits, thousands apart, never a power of ten."""
    if value == 0:
        return "0"
    decimals = max(0, digits - 1 - int(np.floor(np.log10(abs(value)))))
    text = f"{value:,.{decimals}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _plain(text: str) -> str:
    """What the font has letters for."""
    return text.encode("ascii", "replace").decode()
