"""Footprints beside dictionaries of levels, and the trades of candles beside a plain search."""

from collections import defaultdict
from collections.abc import Callable
from decimal import Decimal

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from signals.blocks import BLOCK, anchor, compute
from signals.frame import Array, CandleFrame
from signals.indicators.footprint import (
    VALUE_AREA,
    imbalances,
    level_volumes,
    level_widths,
    longest_run,
    value_area,
)
from signals.registry import find

MakeFrame = Callable[..., CandleFrame]
NAMES = ("stacked_imbalance_5_3", "stacked_imbalance_2_1.5", "volume_profile_1_5", "volume_profile_20_5")
TICK = 0.05


def taped(
    make_frame: MakeFrame, count: int, *, holes: tuple[int, ...] = (), most: int = 6
) -> tuple[CandleFrame, pl.DataFrame]:
    """Candles and the trades that they are made of; some candles have none."""
    frame = make_frame(count, holes=holes)
    rng = np.random.default_rng(count)
    counts = rng.integers(0, most + 1, len(frame))
    which = np.repeat(np.arange(len(frame)), counts)
    times = frame.timestamp[which] + np.sort(rng.integers(0, 60_000_000, len(which)))
    price = TICK * np.round((frame.close[which] + rng.normal(0, 0.1, len(which))) / TICK)
    size, side = rng.integers(1, 20, len(which)) / 4, rng.choice(["buy", "sell"], len(which))
    order = np.lexsort((times, which))
    for name, chosen in (
        ("volume", size > 0),
        ("buy_volume", side == "buy"),
        ("sell_volume", side == "sell"),
    ):
        frame.column(name)[:] = np.bincount(which, weights=size * chosen, minlength=len(frame))
    columns = {"timestamp": times, "price": price, "size": size, "side": side}
    trades = pl.DataFrame({name: column[order] for name, column in columns.items()})
    return frame.with_trades(trades), trades


def levels(trades: pl.DataFrame, start: int, stop: int, width: str) -> dict[int, dict[str, float]]:
    """Volume by level and side of the trades in [start, stop), in decimal."""
    found: dict[int, dict[str, float]] = defaultdict(lambda: {"buy": 0.0, "sell": 0.0})
    for time, price, size, side in trades.filter(pl.col("timestamp").is_between(start, stop, "left")).rows():
        assert start <= time < stop
        found[int(Decimal(f"{price:.10g}") // Decimal(width))][side] += size
    return found


def longest(flagged: set[int]) -> int:
    return max((next(n for n in range(1, 999) if i + n not in flagged) for i in flagged), default=0)


def obvious_stacks(volumes: dict[int, dict[str, float]], ratio: float) -> tuple[int, int]:
    nothing = {"buy": 0.0, "sell": 0.0}
    below, above = (lambda i: volumes.get(i - 1, nothing)), (lambda i: volumes.get(i + 1, nothing))
    buying = {i for i, v in volumes.items() if below(i)["sell"] and v["buy"] >= ratio * below(i)["sell"]}
    selling = {i for i, v in volumes.items() if above(i)["buy"] and v["sell"] >= ratio * above(i)["buy"]}
    return longest(buying), longest(selling)


def obvious_area(volumes: dict[int, float], share: float) -> tuple[int, int, int]:
    """Point of control and value area of levels without a gap in their keys."""
    low, high = min(volumes), max(volumes)
    poc = min(volumes, key=lambda i: (-volumes[i], abs(2 * i - low - high), i))
    inside = [poc]
    while sum(volumes[i] for i in inside) < share * sum(volumes.values()):
        neighbours = [i for i in (max(inside) + 1, min(inside) - 1) if i in volumes]
        inside.append(max(neighbours, key=lambda i: (volumes[i], i)))
    return poc, min(inside), max(inside)


def test_stacked_imbalances_equal_the_obvious(make_frame: MakeFrame) -> None:
    frame, trades = taped(make_frame, 400, most=40)
    frame.close[:] = 100.0
    found = compute(frame, "stacked_imbalance_5_1.5")
    for i, start in enumerate(frame.timestamp.tolist()):
        expected = obvious_stacks(levels(trades, start, start + 60_000_000, "0.05"), 1.5)
        assert (found["buy"][i], found["sell"][i]) == expected
        assert found["balance"][i] == expected[0] - expected[1]
    assert found["buy"].max() >= 3


def test_a_volume_profile_equals_the_obvious(make_frame: MakeFrame) -> None:
    frame, trades = taped(make_frame, 200)
    frame.close[:] = 100.0
    found = compute(frame, "volume_profile_10_20")
    assert np.flatnonzero(~np.isnan(found["poc"]))[0] == 9
    for i in range(9, 200):
        start, stop = int(frame.timestamp[i - 9]), int(frame.timestamp[i]) + 60_000_000
        volumes = {k: v["buy"] + v["sell"] for k, v in levels(trades, start, stop, "0.2").items()}
        every = {k: volumes.get(k, 0.0) for k in range(min(volumes), max(volumes) + 1)}
        poc, low, high = obvious_area(every, VALUE_AREA)
        expected = (0.2 * (poc + 0.5), 0.2 * low, 0.2 * (high + 1))
        assert [found[name][i] for name in ("poc", "area_low", "area_high")] == pytest.approx(expected)


def test_a_published_value_area() -> None:
    """Norm Winski's example of the 70% rule: from 106, then 107, 108 and 105 join until 388 is reached."""
    volume = np.array([64.0, 70, 150, 90, 80, 50, 50])  # at 104 … 110
    assert [104 + i for i in value_area(volume, 388 / volume.sum())] == [106, 105, 108]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 6).map(float), min_size=1, max_size=15).filter(any), st.floats(0.1, 1.0))
def test_a_value_area_equals_the_obvious(volume: list[float], share: float) -> None:
    assert value_area(np.array(volume), share) == obvious_area(dict(enumerate(volume)), share)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(1, 300), st.integers(1, 9), st.sampled_from([-1, 0, 1])),
        min_size=1,
        max_size=30,
    ),
    st.sampled_from(["0.05", "0.1", "2", "0.00001"]),
)
def test_prices_on_an_edge_belong_to_the_level_above_it(rows: list[tuple[int, int, int]], width: str) -> None:
    """Multiples of a fifth of the width, which binary fractions only come near to."""
    exact = [Decimal(ticks) * Decimal(width) / 5 for ticks, _, _ in rows]
    price, size = np.array([float(each) for each in exact]), np.array([float(each) for _, each, _ in rows])
    side = np.array([each for _, _, each in rows], dtype=np.int8)
    low, volumes = level_volumes(price, size, side, 0, len(rows), float(width))
    expected: dict[tuple[int, int], float] = defaultdict(float)
    for (ticks, amount, way), _ in zip(rows, exact, strict=True):
        expected[{1: 0, -1: 1, 0: 2}[way], ticks // 5] += amount
    found = {(row, low + i): volumes[row, i] for row, i in zip(*np.nonzero(volumes), strict=True)}
    assert found == expected
    assert volumes[:, [0, -1]].any(axis=0).all()


def test_levels_are_round_numbers() -> None:
    close = np.array([100.0, 61_234.5, 0.00001234, 1.0, 39_999.0, 40_000.0])
    assert level_widths(close, 5).tolist() == [0.05, 20.0, 5e-9, 0.0005, 10.0, 20.0]
    assert level_widths(np.array([1e-15]), 0.1).tolist() == [1e-18]


def test_a_stack_by_hand() -> None:
    volumes = np.array([[0.0, 9, 9, 9, 1], [3, 3, 3, 0, 9], [0, 0, 0, 0, 0]])
    buying, selling = imbalances(volumes, 3.0)
    assert buying.tolist() == [False, True, True, True, False]
    assert selling.tolist() == [False, False, False, False, False]
    assert longest_run(buying) == 3
    assert longest_run(selling) == 0


def test_candles_whose_trades_are_not_all_there_are_unknown(make_frame: MakeFrame) -> None:
    frame, trades = taped(make_frame, 60)
    missing = int(np.flatnonzero(frame.volume[20:] > 0)[0]) + 20
    lost = pl.col("timestamp").is_between(
        int(frame.timestamp[missing]), int(frame.timestamp[missing]) + 60_000_000, "left"
    )
    partly = frame.with_trades(trades.filter(~lost))
    unknown = np.flatnonzero(np.isnan(compute(partly, "stacked_imbalance")["balance"]))
    assert unknown.tolist() == [missing]
    profile = compute(partly, "volume_profile_10")["poc"]
    assert np.isnan(profile[[*range(9), *range(missing, missing + 10)]]).all()
    frame.buy_volume[5] = np.nan  # an exchange's candle, which no trades are known of
    assert np.isnan(compute(frame.with_trades(trades), "stacked_imbalance")["balance"][5])
    assert np.isnan(compute(make_frame(60), "stacked_imbalance")["balance"]).all()


def test_silence_has_no_stack_and_no_profile(make_frame: MakeFrame) -> None:
    frame, trades = taped(make_frame, 60)
    frame.volume[30:], frame.buy_volume[30:], frame.sell_volume[30:] = 0.0, 0.0, 0.0
    quiet = frame.with_trades(trades.filter(pl.col("timestamp") < int(frame.timestamp[30])))
    assert (compute(quiet, "stacked_imbalance")["balance"][30:] == 0).all()
    profile = compute(quiet, "volume_profile_10")["poc"]
    assert not np.isnan(profile[38])
    assert np.isnan(profile[39:]).all()


@pytest.mark.parametrize("price", [1e9, 1e300])
def test_prices_too_far_apart_have_no_footprint(price: float, make_frame: MakeFrame) -> None:
    frame, trades = taped(make_frame, 60)
    row = int(np.flatnonzero(trades["timestamp"].to_numpy() >= frame.timestamp[30])[0])
    wild = trades.with_columns(price=pl.when(pl.int_range(pl.len()) == row).then(price).otherwise("price"))
    candle = int(np.searchsorted(frame.timestamp, trades["timestamp"][row], side="right")) - 1
    found = compute(frame.with_trades(wild), "stacked_imbalance")["balance"]
    assert np.flatnonzero(np.isnan(found)).tolist() == [candle]


def same(one: Array, other: Array) -> bool:
    return bool(np.array_equal(one, other, equal_nan=True))


@pytest.mark.parametrize("name", NAMES)
def test_neither_the_future_nor_the_start_changes_a_value(name: str, make_frame: MakeFrame) -> None:
    frame, trades = taped(make_frame, BLOCK + 2500, holes=(40, 3000, 3001))
    whole, warmup = compute(frame, name), find(name).warmup
    assert not all(np.isnan(values).all() for values in whole.values())
    for bar in (60, 2990, 3003, BLOCK, len(frame) - 1):
        now = int(frame.timestamp[bar]) + 60_000_000
        begin = frame.find(anchor(frame.timeframe, now - 60_000_000, warmup))
        known = trades.filter(pl.col("timestamp").is_between(int(frame.timestamp[begin]), now, "left"))
        live = compute(frame.part(begin, bar + 1).with_trades(known), name)
        cut = compute(frame.part(0, bar + 1), name)
        for output, values in whole.items():
            assert same(live[output][bar - begin :], values[bar : bar + 1])
            assert same(cut[output], values[: bar + 1])


def test_parts_keep_their_trades(make_frame: MakeFrame) -> None:
    frame, trades = taped(make_frame, 100, holes=(50,))
    for start, stop in ((0, 99), (20, 70), (98, 99), (40, 40)):
        part = frame.part(start, stop)
        found = part.input("trades")
        assert len(found) == stop - start
        for i, begin in enumerate(part.timestamp.tolist()):
            inside = trades.filter(pl.col("timestamp").is_between(begin, begin + 60_000_000, "left"))
            candle = slice(int(found.edges[i]), int(found.edges[i + 1]))
            assert found.price[candle].tolist() == inside["price"].to_list()
            assert found.side[candle].tolist() == [1 if s == "buy" else -1 for s in inside["side"]]
    assert frame.with_trades(trades.clear()).input("trades").is_known.sum() == (frame.volume == 0).sum()
