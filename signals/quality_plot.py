"""Quality drawn: calibration, decay, information coefficient and reasons of each strategy, as a picture."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from market.errors import WrongUse

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from signals.quality import Information, Point, Quality, Series, Share

MOST_SERIES = 6
"""More rows than this a picture cannot hold."""
_MOST_REASONS = 12
_FEWEST_ROWS = 6
_BAND = "#dde5ee"
_INK, _GREY, _BLUE, _GREEN, _RED = "#333333", "#999999", "#1f5fa8", "#2e8b57", "#c0392b"
_TYPES = {
    "STRONG_BUY": (_GREEN, "-"),
    "BUY": (_GREEN, "--"),
    "SELL": (_RED, "--"),
    "STRONG_SELL": (_RED, "-"),
}


def quality_plot(path: Path, quality: Quality, horizon: int) -> Path:
    """Draw one row of four panels for each strategy and timeframe into a file, and give its path.

    Args:
        path: its ending says the format: png, svg, pdf.
        quality: as measured.
        horizon: candles at which reasons are judged.

    Raises:
        WrongUse: there is nothing to draw, or too much, or the format is unknown.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    series = quality.series
    if not 0 < len(series) <= MOST_SERIES:
        raise WrongUse(
            f"a picture holds 1 to {MOST_SERIES} strategies and timeframes, not {len(series)}:"
            " choose with --strategy and --timeframe"
        )
    if path.suffix.lower() not in (".png", ".svg", ".pdf"):
        raise WrongUse(f"{path.name}: a picture's name ends in .png, .svg or .pdf")
    figure = Figure(figsize=(18, 4.4 * len(series)), layout="constrained")
    FigureCanvasAgg(figure)
    rows = figure.subplots(len(series), 4, squeeze=False, width_ratios=(1, 1.15, 1, 1.25))
    for axes, one in zip(rows, series, strict=True):
        _calibration(axes[0], one, [each for each in quality.calibration if _is_of(each, one)])
        _decay(axes[1], [each for each in quality.types if _is_of(each, one)])
        _information(axes[2], [each for each in quality.information if _is_of(each, one)])
        at_horizon = [each for each in quality.reasons if _is_of(each, one) and each.horizon == horizon]
        _reasons(axes[3], at_horizon, horizon)
    for axis in rows.flat:
        axis.grid(visible=True, color="#e5e5e5", linewidth=0.6)
        axis.set_axisbelow(True)
        axis.spines[["top", "right"]].set_visible(False)
        axis.tick_params(labelsize=9, colors=_INK)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    return path


def _is_of(found: Share | Information | Point, series: Series) -> bool:
    return (found.strategy, found.interval) == series


def _calibration(axis: Any, series: Series, points: Sequence[Point]) -> None:
    axis.set_title(f"{series[0]}, {series[1]}: calibration", loc="left", fontsize=11, color=_INK)
    axis.set_xlabel("confidence when the signal was given, %")
    axis.set_ylabel("right, %")
    if not points:
        _say(axis, "no calibrated signal has an outcome yet")
        return
    across = _room([each.promised for each in points], 0.2)
    upwards = _room([value for each in points for value in (each.low, each.high, each.promised)], 0.1)
    axis.plot([0, 100], [0, 100], color=_GREY, linewidth=1.2, linestyle=":", label="as promised")
    most = max(each.signals for each in points)
    for each in points:
        colour = _BLUE if each.is_inside else _RED
        at = 100 * each.promised
        axis.plot([at, at], [100 * each.low, 100 * each.high], color=colour, linewidth=1.6, alpha=0.6)
        size = 25 + 110 * each.signals / most
        axis.scatter([at], [100 * each.hit_rate], s=size, color=colour, zorder=3, linewidths=0)
        axis.annotate(
            f"{each.signals:,}",
            (at, 100 * each.high),
            xytext=(0, 3),
            textcoords="offset points",
            ha="center",
            fontsize=7,
            color=_GREY,
        )
    axis.plot([], [], color=_BLUE, marker="o", label="found, with its 95% band")
    axis.plot([], [], color=_RED, marker="o", label="promise outside the band")
    axis.set_xlim(across)
    # The legend has the upper third for itself.
    axis.set_ylim(upwards[0], upwards[1] + 0.4 * (upwards[1] - upwards[0]))
    axis.legend(frameon=False, fontsize=8, loc="upper left")


def _room(shares: Sequence[float], margin: float) -> tuple[float, float]:
    """Percentages a little below and above `shares`, at least five points apart."""
    low, high = 100 * min(shares), 100 * max(shares)
    spare = max(margin * (high - low), (5 - (high - low)) / 2)
    return low - spare, high + spare


def _decay(axis: Any, types: Sequence[Share]) -> None:
    axis.set_title("average move the signal's way, after costs", loc="left", fontsize=11, color=_INK)
    axis.set_ylabel("basis points")
    horizons = sorted({each.horizon for each in types})
    for name, (colour, style) in _TYPES.items():
        found = {each.horizon: each for each in types if each.name == name}
        places = [place for place, horizon in enumerate(horizons) if horizon in found]
        if places:
            moves = [found[horizons[place]].average_bps for place in places]
            count = max(each.signals for each in found.values())
            label = f"{name} ({count:,})"
            axis.plot(places, moves, color=colour, linestyle=style, marker="o", markersize=4, label=label)
    axis.axhline(0, color=_INK, linewidth=0.8)
    _horizons(axis, horizons)
    axis.legend(frameon=False, fontsize=8)


def _information(axis: Any, found: Sequence[Information]) -> None:
    from matplotlib.patches import Patch

    axis.set_title("information coefficient", loc="left", fontsize=11, color=_INK)
    axis.set_ylabel("rank correlation of score and move")
    for place, each in enumerate(found):
        if each.value is None or each.band is None:
            continue
        axis.bar(place, 2 * each.band, bottom=-each.band, width=0.7, color=_BAND, linewidth=0)
        colour = _BLUE if abs(each.value) > each.band else _GREY
        axis.plot([place], [each.value], marker="o", markersize=7, color=colour)
        axis.annotate(
            f"{each.value:+.3f}",
            (place, each.value),
            xytext=(9, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
            color=_INK,
        )
    axis.axhline(0, color=_INK, linewidth=0.8)
    axis.use_sticky_edges = False
    axis.margins(x=0.2, y=0.15)
    _horizons(axis, [each.horizon for each in found])
    patch = Patch(color=_BAND, label="95% of scores that know nothing")
    axis.legend(handles=[patch], frameon=False, fontsize=8, loc="upper left")


def _reasons(axis: Any, reasons: Sequence[Share], horizon: int) -> None:
    axis.set_title(f"reasons, {horizon} candles later", loc="left", fontsize=11, color=_INK)
    axis.set_xlabel("average move the signal's way, after costs, basis points")
    if not reasons:
        _say(axis, "no outcome at this horizon yet")
        return
    shown = sorted(reasons, key=lambda each: -each.signals)[:_MOST_REASONS]
    shown.sort(key=lambda each: each.average_bps)
    moves = [each.average_bps for each in shown]
    colours = [_GREEN if move > 0 else _RED for move in moves]
    axis.barh(range(len(shown)), moves, color=colours, alpha=0.75, height=0.62)
    axis.set_yticks(range(len(shown)), [each.name for each in shown])
    span = max(max(moves), 0) - min(min(moves), 0)
    for place, each in enumerate(shown):
        axis.annotate(
            f"{100 * each.hit_rate:.0f}% of {each.signals:,}",
            (max(each.average_bps, 0), place),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
            color=_INK,
        )
    axis.set_ylim(-0.6, max(len(shown), _FEWEST_ROWS) - 0.4)
    axis.set_xlim(min(min(moves), 0) - 0.03 * span, max(max(moves), 0) + 0.42 * span)
    axis.axvline(0, color=_INK, linewidth=0.8)


def _horizons(axis: Any, horizons: Sequence[int]) -> None:
    axis.set_xticks(range(len(horizons)), [str(horizon) for horizon in horizons])
    axis.set_xlabel("candles after the signal")


def _say(axis: Any, text: str) -> None:
    axis.text(0.5, 0.5, text, transform=axis.transAxes, ha="center", va="center", color=_GREY)
    axis.set_xticks([])
    axis.set_yticks([])
