"""docs/strategies.md says what the code says, and its examples work."""

import re
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from backtest.run import run
from backtest.strategies import find
from deltatape import settings
from market import Timeframe
from signals.engine import evaluate
from signals.frame import CandleFrame
from signals.rules import KINDS
from signals.strategies import SHIPPED, configured, known, shipped

PAGE = (Path(__file__).parent.parent.parent / "docs" / "strategies.md").read_text()


def block(kind: str) -> str:
    (found,) = re.findall(rf"```{kind}\n(.*?)```", PAGE, re.DOTALL)
    return str(found)


def row(name: str) -> list[str]:
    (line,) = [line for line in PAGE.splitlines() if line.startswith(f"| `{name}` |")]
    return [cell.strip() for cell in line.split("|")[2:-1]]


@pytest.mark.parametrize("name", list(SHIPPED))
def test_each_strategy_has_its_rules_and_weights(name: str) -> None:
    strategy = shipped(name)
    rules = ", ".join(f"`{w.rule.kind}` {w.weight:g}" for w in strategy.rules)
    confirming = "".join(f"; `{timeframe}` confirms" for timeframe in strategy.confirm)
    assert row(name) == [rules + confirming]


@pytest.mark.parametrize("kind", list(KINDS))
def test_each_rule_has_its_parameters(kind: str) -> None:
    rule = KINDS[kind]()
    wanted = ", ".join(f"`{each.name}` {getattr(rule, each.name):g}" for each in fields(rule))  # type: ignore[arg-type]
    assert row(kind)[0] == wanted


def test_the_examples_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_frame: Callable[..., CandleFrame]
) -> None:
    (tmp_path / "strategies").mkdir()
    (tmp_path / "strategies" / "breakout.py").write_text(block("python"))
    (tmp_path / "deltatape.toml").write_text(block("toml"))
    monkeypatch.setenv("DELTATAPE_HOME", str(tmp_path))
    options = settings.load().signals
    assert [strategy.name for strategy in configured(options)] == ["composite", "slow_trend", "breakout"]
    slow = known("slow_trend", options)
    assert [(w.rule.kind, w.weight) for w in slow.rules] == [("ema_trend", 2.0), ("rsi_momentum", 1.0)]
    assert (slow.confirm, slow.thresholds.weak) == ((Timeframe.H4, Timeframe.D1), 0.3)
    assert dict(slow.policy) == {"stop": 0.02, "target": 0.05}
    frame = make_frame(2000, timeframe=Timeframe.M5)
    score = evaluate(known("breakout", options), frame).score
    assert (score[100:] > 0).any()
    for name in ("slow_trend", "breakout"):
        result = run(frame, find(name, options), {"target": 0.1})
        assert result.setup.policy.stop == (0.02 if name == "slow_trend" else 0.0)
        assert result.setup.policy.target == 0.1
        assert result.metrics.total_trades > 0
    highest = frame.high[80:100].max()
    assert score[100] == pytest.approx(float(np.clip((frame.close[100] / highest - 1) / 0.01, 0, 1)))
