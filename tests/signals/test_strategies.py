from collections.abc import Callable

import numpy as np
import pytest

from market.errors import WrongUse
from signals.engine import evaluate
from signals.frame import CandleFrame
from signals.options import Cautions, SignalOptions, Thresholds
from signals.strategies import SHIPPED, composite, configured, shipped

MakeFrame = Callable[..., CandleFrame]


def test_the_hash_names_the_configuration() -> None:
    assert composite().config_hash == composite().config_hash
    hashes = {
        composite().config_hash,
        composite().changed({"thresholds.strong": 0.6}).config_hash,
        composite().changed({"ema_trend.fast": 10}).config_hash,
        composite().changed({"book_pressure.weight": 0.1}).config_hash,
        configured(SignalOptions(cautions=Cautions(wide_spread_bps=5.0)))[0].config_hash,
    }
    assert len(hashes) == 5
    assert composite().changed({"ema_trend.fast": 12.0}).config_hash == composite().config_hash


def test_changed_parameters_change_the_result(make_frame: MakeFrame) -> None:
    frame = make_frame(500)
    before = evaluate(composite(), frame).score
    after = evaluate(composite().changed({"ema_trend.fast": 5, "rsi_reversal.low": 40}), frame).score
    assert not np.array_equal(before, after, equal_nan=True)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("ema_trend.speed", 3, "no parameter 'speed'; it has fast, slow, full"),
        ("nothing.fast", 3, "has no 'nothing'; it has thresholds, ema_trend"),
        ("ema_trend.fast", 3.5, "whole number"),
        ("fast", 3, "has no 'fast'"),
        ("thresholds.sturdy", 3, "no parameter 'sturdy'"),
    ],
)
def test_an_unknown_parameter_is_refused(path: str, value: float, message: str) -> None:
    with pytest.raises(WrongUse, match=message):
        composite().changed({path: value})


def test_an_unknown_strategy_is_refused() -> None:
    with pytest.raises(WrongUse, match="use one of composite, mean_reversion"):
        shipped("alchemy")


def test_configuration_sets_thresholds_of_each_strategy() -> None:
    options = SignalOptions(strategies=("trend", "composite"), thresholds=Thresholds(strong=0.9))
    assert [s.name for s in configured(options)] == ["trend", "composite"]
    assert all(s.thresholds.strong == 0.9 for s in configured(options))


@pytest.mark.parametrize("name", list(SHIPPED))
def test_every_rule_scores_and_explains(name: str, make_frame: MakeFrame) -> None:
    from signals.blocks import passes

    strategy, frame = shipped(name), make_frame(800)
    (part,) = passes(frame, strategy.warmup)
    for rule in (weighted.rule for weighted in strategy.rules):
        scores = rule.score(part)
        known = ~np.isnan(scores)
        assert np.all(np.abs(scores[known]) <= 1)
        missing = np.any([np.isnan(part[cited]) for cited in rule.cites], axis=0)
        assert np.array_equal(missing, ~known)
        for i in np.flatnonzero(known)[::37]:
            reason = rule.reason({cited: float(part[cited][i]) for cited in rule.cites})
            assert any(digit in reason for digit in "0123456789")
            assert "nan" not in reason
