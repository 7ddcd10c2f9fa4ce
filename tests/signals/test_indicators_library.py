import subprocess
import sys
from collections.abc import Callable, Mapping

import numpy as np
import pytest
import talib
from talib import abstract

from market.errors import WrongUse
from signals.blocks import BLOCK, passes
from signals.frame import PRICES, Array, CandleFrame
from signals.indicators.library import functions
from signals.registry import Bound, Parameter, available, find
from signals.rules import BookPressure
from signals.strategies import Strategy, Weighted

MakeFrame = Callable[..., CandleFrame]
RealFrame = Callable[[str], CandleFrame]
NAMES = sorted(talib.get_functions())
# What ours call the parameters of those functions that have an indicator of our own.
OWN = {
    "sma": ("timeperiod",),
    "ema": ("timeperiod",),
    "rsi": ("timeperiod",),
    "atr": ("timeperiod",),
    "adx": ("timeperiod",),
    "plus_di": ("timeperiod",),
    "minus_di": ("timeperiod",),
    "macd": ("fastperiod", "slowperiod", "signalperiod"),
    "bbands": ("timeperiod", "nbdevup"),
}
ACCUMULATING = ("AD", "CUMSUM", "NVI", "OBV", "PVI", "PVT", "VWAP", "WAD")
INDICES = ("MAXINDEX", "MININDEX", "MINMAXINDEX")


def expected(name: str, frame: CandleFrame, parameters: Mapping[str, float]) -> list[Array]:
    """What TA-Lib's abstract interface, which picks the inputs by itself, says of a stretch of candles."""
    columns = {column: frame.column(column) for column in PRICES}
    function = abstract.Function(name, **parameters)
    lookback = function.lookback
    if name == "MAVP":
        cycle = talib.HT_DCPERIOD(frame.close)
        columns["periods"] = np.where(np.isnan(cycle), 2.0, cycle)
        lookback += 32
    result = function(columns)
    arrays = [np.array(each, dtype=float) for each in (result if isinstance(result, list) else [result])]
    for array in arrays:
        array[:lookback] = np.nan
    return arrays


def parameters_of(bound: Bound) -> dict[str, float]:
    names = OWN.get(bound.indicator.name) or tuple(each.name for each in bound.indicator.parameters)
    found = dict(zip(names, bound.arguments, strict=True))
    return found | ({"nbdevdn": found["nbdevup"]} if bound.indicator.name == "bbands" else {})


def assert_equal(name: str, frame: CandleFrame) -> None:
    """On the very slices that the engine computes: bit for bit."""
    bound = find(name)
    for part in passes(frame, bound.warmup):
        found = part.outputs(bound)
        whole = expected(bound.indicator.name.upper(), part.frame, parameters_of(bound))
        wanted = [array[part.lead :] for array in whole]
        for one, other in zip(found.values(), wanted, strict=True):
            if bound.indicator.name == "rsi":
                one, other = (
                    np.where(np.isnan(found["rsi"]) & (wanted[0] == 0), 0.0, x) for x in (one, other)
                )
            assert np.array_equal(one, other, equal_nan=True), f"{name} differs from TA-Lib"


def other(name: str) -> str:
    """The name with other parameters than its defaults: longer, wider, with EMAs."""
    return "_".join([name, *(_other(each) for each in find(name).indicator.parameters)])


def _other(parameter: Parameter) -> str:
    if parameter.kind is float:
        return f"{min(1.5 * parameter.default, parameter.bounds.high):.10g}"
    return "1" if parameter.name.endswith("matype") else str(int(parameter.default) + 3)


def test_every_function_is_registered() -> None:
    every = {each.name: each for each in available()}
    assert len(NAMES) > 190
    for name in NAMES:
        known = every[name.lower()]
        assert find(known.default_name).name == known.default_name
        assert known.summary


@pytest.mark.parametrize("name", NAMES)
def test_it_equals_talib_bit_for_bit_on_the_same_slice(name: str, make_frame: MakeFrame) -> None:
    frame = make_frame(BLOCK + 1500, holes=(1000,))
    assert_equal(name.lower(), frame)
    assert_equal(other(name.lower()), frame)


@pytest.mark.parametrize(
    ("name", "count"),
    [("ETH_BTC-5m", 3000), ("LTC_BTC-5m", 3000), ("UNITTEST_BTC-1m", 250), ("XRP_ETH-1m", 200)],
)
def test_each_equals_talib_on_real_candles(name: str, count: int, real_frame: RealFrame) -> None:
    """The candles of a minute are full of holes, each a slice of its own: some hundreds do."""
    frame = real_frame(name)
    frame = frame.part(0, min(len(frame), count))
    for function in NAMES:
        assert_equal(function.lower(), frame)


@pytest.mark.parametrize("name", NAMES)
def test_where_it_began_is_forgotten_at_the_block(name: str, make_frame: MakeFrame) -> None:
    """What sets the first value apart from one with all of the past: rounding; a wrong warm-up, much more."""
    frame, bound = make_frame(12_000), find(name.lower())
    if name in ACCUMULATING + INDICES:
        assert "begins anew" in bound.indicator.summary or name in INDICES
        return
    block = next(part.start for part in passes(frame, 0) if part.start > BLOCK)
    short = frame.part(block - bound.warmup, block + 500)
    for output, values in bound.compute(frame.input).items():
        past, found = values[block : block + 500], bound.compute(short.input)[output][bound.warmup :]
        assert np.array_equal(np.isnan(past), np.isnan(found))
        scale = np.max(np.abs(past), initial=0.0, where=np.isfinite(past))
        assert np.all(np.isclose(past, found, rtol=0, atol=1e-8 * scale, equal_nan=True))


def test_it_is_nan_until_it_is_warm_and_where_candles_are_too_few(make_frame: MakeFrame) -> None:
    frame = make_frame(200)
    for name, lookback in (
        ("cdl3blackcrows", 13),
        ("ht_trendmode", 63),
        ("adxr_14", 40),
        ("maxindex_30", 29),
    ):
        (values,) = find(name).compute(frame.input).values()
        assert np.flatnonzero(~np.isnan(values))[0] == lookback
        (short,) = find(name).compute(frame.part(0, lookback).input).values()
        assert np.isnan(short).all()
    for name in NAMES:
        none = find(name.lower()).compute(frame.part(0, 0).input)
        assert all(len(values) == 0 for values in none.values())


def test_windows_read_their_lookback_and_memories_much_more() -> None:
    assert find("linearreg_14").warmup == 13
    assert find("cdldoji").warmup == 10
    assert find("adx_14").warmup == 32 * 28 == find("dx_27").warmup
    assert find("dema_30").warmup == 32 * 59
    assert find("sar").warmup == 512


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("aroon_1", "timeperiod must lie in 2 … 1000"),
        ("mavp_30_5_0", "TA-Lib refuses minperiod 30, maxperiod 5"),
        ("ma_10_14", "matype must lie in 0 … 13"),
        ("cdldoji_3", "cdldoji takes none"),
        ("mama_0.5_2", "slowlimit must lie in"),
        ("stochf.fastd", None),
        ("adxx_14", "did you mean adx"),
    ],
)
def test_a_wrong_parameter_is_one_clear_line(name: str, message: str | None) -> None:
    with pytest.raises(WrongUse, match=message) as caught:
        find(name)
    assert "\n" not in str(caught.value)


def test_a_strategy_may_cite_fractions() -> None:
    class Following(BookPressure):
        cites = ("mama_0.5_0.05.fama", "kama_1000")

    assert (
        Strategy("following", (Weighted(Following(), 1.0),)).warmup == find("kama_1000").warmup == 32 * 1001
    )


def test_ours_come_first_and_take_their_own_parameters() -> None:
    assert {name for name in functions() if not find(name).indicator.summary.endswith(")")} >= {"ema", "rsi"}
    assert find("bbands").name == "bbands_20_2"


def test_talib_is_loaded_only_when_it_is_asked_for() -> None:
    code = (
        "import sys; from signals.registry import find; from signals import engine, strategies;"
        " find('ema_20'), find('rsi_14'), find('cvd_20'); before = 'talib' in sys.modules;"
        " find('cci_14'); print(before, 'talib' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True"]
