"""Pictures of candles: themes, holes, a single candle, and names that matplotlib would read as formulas."""

import io

import numpy as np
import polars as pl
import pytest
from matplotlib import image

from alerts.charts import Mark, candles_png
from market.timeframe import MICROSECONDS

MINUTE = 60 * MICROSECONDS
START = 1_790_000_040_000_000


def candles(count, sides=True):
    rising = 100.0 + np.arange(count)
    volume = pl.Series(np.arange(count) % 7 + 1.0) if sides else pl.Series([None] * count, dtype=pl.Float64)
    return pl.DataFrame(
        {
            "timestamp": pl.Series(START + np.arange(count) * MINUTE).cast(pl.Datetime("us", "UTC")),
            "open": rising,
            "high": rising + 2,
            "low": rising - 1,
            "close": rising + 1,
            "buy_volume": volume,
            "sell_volume": volume * 0.5,
        }
    )


def pixels(data):
    return image.imread(io.BytesIO(data), format="png")


@pytest.mark.parametrize(("theme", "is_dark"), [("dark", True), ("light", False)])
def test_each_theme_has_its_ground(theme, is_dark):
    picture = pixels(candles_png("A/B 1m kraken", candles(90), MINUTE, theme=theme))
    assert picture.shape == (744, 1080, 4)
    assert (picture[0, 0, :3].mean() < 0.2) == is_dark
    assert picture.std() > 0.05


def test_a_hole_is_shaded():
    whole = candles(60)
    broken = whole.filter((pl.int_range(60) < 20) | (pl.int_range(60) > 40))
    # In the middle of the hole, where no candle, line or label is.
    ground, shade = (pixels(candles_png("A", each, MINUTE))[150, 470, :3] for each in (whole[:1], broken))
    assert shade[0] > ground[0]


@pytest.mark.parametrize("count", [1, 2])
def test_few_candles_and_those_without_sides_are_drawn(count):
    assert pixels(candles_png("A", candles(count, sides=False), MINUTE)).std() > 0.01


def test_names_are_never_formulas_and_marks_stand_anywhere():
    for at, is_up in ((0, True), (45, None), (89, False)):
        mark = Mark(START + (at + 1) * MINUTE, r"$\frac{", is_up)
        assert candles_png("$\\PEPE{/币 _^", candles(90), MINUTE, mark=mark)
