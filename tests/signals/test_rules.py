import numpy as np
import pytest

from signals.frame import Array
from signals.rules import BollingerReversal, BookPressure, EmaTrend, FlowTrend, MacdMomentum, RsiReversal


def arrays(**values: list[float]) -> dict[str, Array]:
    return {name: np.array(column) for name, column in values.items()}


def test_rsi_scores_only_exhaustion() -> None:
    scores = RsiReversal().score(arrays(rsi_14=[5, 10, 20, 29.9, 30, 50, 70, 80, 95, np.nan]))
    expected = [1, 1, 0.75, 0.5025, 0, 0, 0, -0.75, -1, np.nan]
    assert scores == pytest.approx(expected, nan_ok=True)


@pytest.mark.parametrize(
    ("value", "words"),
    [(27.3, "RSI(14) = 27.3 < 30"), (71.04, "RSI(14) = 71.0 > 70"), (50, "RSI(14) = 50.0 between 30 and 70")],
)
def test_rsi_reasons(value: float, words: str) -> None:
    assert RsiReversal().reason({"rsi_14": value}) == words


def test_ema_trend_in_atr_units() -> None:
    values = arrays(ema_12=[11, 9, 10.5, 10, 10], ema_26=[10, 10, 10, 10, np.nan], atr_14=[0.5, 2, 1, 0, 1])
    assert EmaTrend().score(values) == pytest.approx([1, -0.5, 0.5, np.nan, np.nan], nan_ok=True)
    reason = EmaTrend().reason({"ema_12": 61234.5, "ema_26": 61100.25, "atr_14": 100.0})
    assert reason == "EMA(12) = 61,234.5 above EMA(26) = 61,100.2, 1.34 ATR apart"


def test_bollinger_scores_only_outside_the_bands() -> None:
    rule = BollingerReversal()
    close = [100, 108, 110, 112, 120, 90, 85, 100]
    values = {
        "close": np.array(close, dtype=float),
        "bbands_20_2.lower": np.array([90.0] * 7 + [100]),
        "bbands_20_2.middle": np.full(8, 100.0),
        "bbands_20_2.upper": np.array([110.0] * 7 + [100]),
    }
    expected = [0, 0, -0.5, -0.7, -1, 0.5, 1, np.nan]
    assert rule.score(values) == pytest.approx(expected, nan_ok=True)
    bands = {"bbands_20_2.lower": 90.0, "bbands_20_2.middle": 100.0, "bbands_20_2.upper": 110.0}
    assert rule.reason({"close": 85.0, **bands}) == "close 85 at or below the lower Bollinger(20, 2) band 90"
    assert rule.reason({"close": 100.0, **bands}) == "close 100 inside Bollinger(20, 2) 90 … 110"


def test_macd_against_its_signal() -> None:
    name = "macd_12_26_9"
    values = {f"{name}.histogram": np.array([0.1, -1.0]), "atr_14": np.array([1.0, 1.0])}
    assert MacdMomentum().score(values) == pytest.approx([0.4, -1])
    cited = {f"{name}.histogram": -0.5, f"{name}.macd": 1.0, f"{name}.signal": 1.5, "atr_14": 1.0}
    assert MacdMomentum().reason(cited) == "MACD(12, 26, 9) = 1 below its signal 1.5"


def test_flow_and_book() -> None:
    assert FlowTrend().score(arrays(cvd_trend_20=[0.15, -0.9, np.nan])) == pytest.approx(
        [0.5, -1, np.nan], nan_ok=True
    )
    cited = {"cvd_20": -12.5, "cvd_slope_20": -0.6, "cvd_trend_20": -0.14}
    assert FlowTrend().reason(cited) == "CVD over 20 candles = -12.5, slope -0.6 a candle (-14.0% of volume)"
    assert BookPressure().score(arrays(imbalance_mean=[25, -80])) == pytest.approx([0.5, -1])
    words = "book imbalance -31.5% over the candle: the asks weigh more"
    assert BookPressure().reason({"imbalance_mean": -31.5}) == words
