"""Charts as SVG inside HTML: lines, areas and dots over time, drawn by hand, readable on any width.

The drawing is stretched to the page, its labels are not: they are text of the page above it. More points
than a screen can show are thinned out, with the same outline.
"""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from math import ceil, floor, log10
from typing import TYPE_CHECKING, Any

import numpy as np

from backtest.charts import thin
from market.timeframe import DAY, to_datetime

if TYPE_CHECKING:
    from collections.abc import Sequence

    from backtest.batch import Floats, Integers

_WIDTH, _HEIGHT = 1_000.0, 100.0
_TICKS = 5
_MOST_DOTS = 150
_MOST_HOLES = 250


@dataclass(frozen=True, slots=True)
class Line:
    """Values over time; `style` is the class that colours it, `is_area` fills it down to 0."""

    name: str
    style: str
    timestamp: Integers
    values: Floats
    is_area: bool = False


@dataclass(frozen=True, slots=True)
class Dots:
    """Single moments with a value each."""

    name: str
    style: str
    timestamp: Integers
    values: Floats


def chart(
    lines: Sequence[Line],
    dots: Sequence[Dots] = (),
    holes: Sequence[tuple[int, int]] = (),
    *,
    tall: bool = False,
    unit: str = "",
) -> str:
    """One chart, with a legend where it shows more than one thing.

    Args:
        lines: at least one, each with at least one point.
        dots: upon them; of many only some are drawn, spread evenly.
        holes: spans without data, of which the longest are shaded.
        tall: whether it is of the larger kind.
        unit: behind the numbers of the scale.
    """
    start = min(int(line.timestamp[0]) for line in lines)
    stop = max(int(line.timestamp[-1]) for line in lines)
    length = max(stop - start, 1)
    low, high, ticks = _scale(lines, dots)

    def x(times: Any) -> Any:
        return (np.asarray(times) - start) * (_WIDTH / length)

    def y(values: Any) -> Any:
        return (high - np.asarray(values)) * (_HEIGHT / (high - low))

    longest = sorted(holes, key=lambda hole: hole[0] - hole[1])[:_MOST_HOLES]
    shapes = [_shade(x(hole), start < stop) for hole in longest]
    shapes += [f'<path class="rule" d="M0 {y(tick):.2f}H{_WIDTH:g}"/>' for tick in ticks]
    for line in lines:
        times, values = thin(line.timestamp, line.values)
        shapes.append(_path(line, x(times), y(values), float(y(0.0))))
    for each in dots:
        times, values = _spread(each)
        marks = "".join(f"M{a:.1f} {b:.2f}h0" for a, b in zip(x(times), y(values), strict=True))
        shapes.append(f'<path class="dots {each.style}" d="{marks}"/>')
    labels = [
        f'<span class="value" style="top:{100 * float(y(tick)) / _HEIGHT:.2f}%">'
        f"{_short(tick)}{escape(unit)}</span>"
        for tick in ticks
    ]
    return (
        f'{_legend([*lines, *dots])}<div class="chart{" tall" if tall else ""}">'
        f'<svg viewBox="0 0 {_WIDTH:g} {_HEIGHT:g}" preserveAspectRatio="none" role="img"'
        f' aria-label="{escape(", ".join(each.name for each in lines))}">{"".join(shapes)}</svg>'
        f"{''.join(labels)}</div>{_time_axis(start, stop)}"
    )


def _scale(lines: Sequence[Line], dots: Sequence[Dots]) -> tuple[float, float, list[float]]:
    """The lowest and highest value shown, and round ones between them."""
    drawn: list[Line | Dots] = [*lines, *dots]
    shown = [each.values for each in drawn if len(each.values)]
    low, high = min(float(v.min()) for v in shown), max(float(v.max()) for v in shown)
    if all(line.is_area for line in lines):
        # An area ends at 0 and needs no room beyond it.
        low, high = min(low, 0.0), max(high, 0.0)
        low = low if low < high else -1.0
    else:
        room = 0.06 * (high - low) or 0.01 * abs(high) or 1.0
        low, high = low - room, high + room
    rough = (high - low) / _TICKS
    power = 10.0 ** floor(log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough)
    return low, high, [step * i for i in range(ceil(low / step), floor(high / step) + 1)]


def _path(line: Line, xs: Floats, ys: Floats, zero: float) -> str:
    points = "L".join(f"{a:.1f} {b:.2f}" for a, b in zip(xs, ys, strict=True))
    if line.is_area:
        return f'<path class="area {line.style}" d="M{xs[0]:.1f} {zero:.2f}L{points}V{zero:.2f}Z"/>'
    return f'<path class="line {line.style}" d="M{points}"/>'


def _shade(edges: Floats, is_wide: bool) -> str:
    left, right = (edges[0], edges[1]) if is_wide else (0.0, 0.0)
    return f'<rect class="hole" x="{left:.1f}" width="{max(right - left, 0.8):.1f}" height="{_HEIGHT:g}"/>'


def _spread(dots: Dots) -> tuple[Integers, Floats]:
    if len(dots.values) <= _MOST_DOTS:
        return dots.timestamp, dots.values
    chosen = np.linspace(0, len(dots.values) - 1, _MOST_DOTS).astype(np.int64)
    return dots.timestamp[chosen], dots.values[chosen]


def _legend(shown: Sequence[Line | Dots]) -> str:
    if len(shown) < 2:
        return ""
    keys = []
    for each in shown:
        count = len(each.values)
        note = (
            f" ({_MOST_DOTS:,} of {count:,} shown)" if isinstance(each, Dots) and count > _MOST_DOTS else ""
        )
        keys.append(f'<span class="key {each.style}">{escape(each.name)}{note}</span>')
    return f'<p class="legend">{"".join(keys)}</p>'


def _time_axis(start: int, stop: int) -> str:
    form = "%Y-%m-%d" if stop - start > 4 * DAY else "%m-%d %H:%M"
    marks = np.linspace(start, stop, _TICKS).astype(np.int64).tolist() if stop > start else [start]
    return f'<p class="times">{"".join(f"<span>{to_datetime(mark):{form}}</span>" for mark in marks)}</p>'


def _short(value: float) -> str:
    if abs(value) >= 1e6:
        return f"{value / 1e6:,.4g} M"
    return f"{value:,.6g}" if value else "0"
