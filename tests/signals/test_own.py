import multiprocessing
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import chain
from pathlib import Path
from threading import Event

import numpy as np
import pytest

from market import Timeframe, WrongUse
from signals.compute import compute
from signals.engine import evaluate
from signals.frame import CandleFrame
from signals.judging import Apart, BadStrategy, TooSlow
from signals.options import SignalOptions, StrategyOptions, Thresholds
from signals.run import Follower
from signals.run import run as run_live
from signals.strategies import configured, known
from signals.target import Selection
from storage.database import Connection, connect

MakeFrame = Callable[..., CandleFrame]
Put = Callable[[CandleFrame], None]
BREAKOUT = '''
from dataclasses import dataclass
from signals.registry import indicator
import numpy as np

@indicator(warmup=lambda: 20)
def own_high(high):
    """The highest high of the twenty candles before."""
    result = np.full(len(high), np.nan)
    for i in range(20, len(high)):
        result[i] = high[i - 20 : i].max()
    return result

@dataclass(frozen=True)
class Breakout:
    """Buys above the highest high of the twenty candles before."""
    full: float = 0.01
    cites = ("close", "own_high")

    def score(self, values):
        return np.clip((values["close"] / values["own_high"] - 1) / self.full, -1, 1)

    def reason(self, values):
        return f"close {values['close']:g} against {values['own_high']:g}"
'''
RAISING = """
class Raising:
    cites = ("close",)
    def score(self, values):
        return 1 / 0
    def reason(self, values):
        return ""
"""
ENDLESS = RAISING.replace("Raising", "Endless").replace("return 1 / 0", "while True: pass")
DYING = RAISING.replace("Raising", "Dying").replace("return 1 / 0", "import os; os._exit(1)")
WILD = RAISING.replace("Raising", "Wild").replace("return 1 / 0", 'return values["close"]')
SILENT = RAISING.replace("Raising", "Silent").replace("return 1 / 0", 'return values["close"] * float("nan")')


@pytest.fixture
def options(tmp_path: Path) -> SignalOptions:
    for name, text in (("breakout", BREAKOUT), ("raising", RAISING), ("endless", ENDLESS), ("dying", DYING)):
        (tmp_path / f"{name}.py").write_text(text)
    (tmp_path / "more.py").write_text(WILD + SILENT)
    return SignalOptions(folder=tmp_path, time_limit=30.0)


@pytest.fixture
def apart(options: SignalOptions) -> Iterator[Apart]:
    beside = Apart(options)
    yield beside
    beside.close()


def test_a_file_in_the_folder_is_a_strategy(
    options: SignalOptions, apart: Apart, make_frame: MakeFrame
) -> None:
    strategy, frame = known("breakout", options), make_frame(300)
    high, close = frame.high, frame.close
    score = evaluate(strategy, frame).score
    assert np.isnan(score[:20]).all()
    for i in (20, 77, 299):
        assert score[i] == np.clip((close[i] / high[i - 20 : i].max() - 1) / 0.01, -1, 1)
    judged = apart.judge(strategy, frame, 0, None, {})
    assert judged.rows[0].reasons[0].startswith("close ")
    assert judged.last is not None


def test_another_text_is_another_strategy(options: SignalOptions) -> None:
    before = known("breakout", options)
    assert options.folder is not None
    (options.folder / "breakout.py").write_text(BREAKOUT.replace("0.01", "0.02"))
    after = known("breakout", options)
    assert before.config_hash != after.config_hash
    assert after.rules[0].rule.full == 0.02  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("class Broken(", "SyntaxError"),
        ("import nothing_of_that_name", "ModuleNotFoundError"),
        (RAISING.replace("Raising", "Odd") + "    confirm = ('7m',)", "unknown timeframe '7m'"),
        (RAISING, "another strategy 'raising'"),
    ],
)
def test_a_file_that_cannot_be_used_is_named(options: SignalOptions, text: str, message: str) -> None:
    assert options.folder is not None
    (options.folder / "zebra.py").write_text(text)
    with pytest.raises(WrongUse, match=message) as caught:
        known("composite", options)
    assert "zebra.py" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "kind", "message"),
    [
        ("raising", BadStrategy, "strategy raising: ZeroDivisionError"),
        ("wild", BadStrategy, "wild must score each candle from -1 to 1"),
        ("dying", BadStrategy, "strategy dying: its process died"),
    ],
)
def test_what_it_does_wrong_is_said_and_ends_only_its_own_turn(
    name: str,
    kind: type[Exception],
    message: str,
    options: SignalOptions,
    apart: Apart,
    make_frame: MakeFrame,
) -> None:
    frame = make_frame(100)
    with pytest.raises(kind, match=message):
        apart.judge(known(name, options), frame, 0, None, {})
    assert apart.judge(known("breakout", options), frame, 0, None, {}).rows


def test_one_that_takes_too_long_is_ended(options: SignalOptions, make_frame: MakeFrame) -> None:
    apart = Apart(replace(options, time_limit=0.5))
    with pytest.raises(TooSlow, match=r"strategy endless: not done after 0\.5 s, and ended"):
        apart.judge(known("endless", options), make_frame(100), 0, None, {})
    assert multiprocessing.active_children() == []


def test_the_others_go_on_live(
    options: SignalOptions,
    session: Connection,
    put: Put,
    make_frame: MakeFrame,
    caplog: pytest.LogCaptureFixture,
) -> None:
    names = ("raising", "endless", "composite", "silent", "breakout")
    wanted = replace(options, strategies=names, time_limit=6.0)
    frame = make_frame(400)
    put(frame.part(0, 300))
    follower = Follower(session, wanted, Selection())
    follower.look()
    done = chain.from_iterable(follower.advance())
    assert {step.job.strategy.name for step in done} == {"composite", "silent", "breakout"}
    put(frame.part(300, 400))
    assert sum(step.candles for step in chain.from_iterable(follower.advance())) == 300
    follower.close()
    said = [record.getMessage() for record in caplog.records]
    assert [text.split(":")[0] for text in said] == ["strategy raising", "strategy endless"]
    stored = session.execute("SELECT DISTINCT strategy_name FROM signals ORDER BY 1").fetchall()
    assert stored == [("breakout",), ("composite",)]


def test_the_others_go_on_in_a_batch(
    options: SignalOptions, database: str, put: Put, make_frame: MakeFrame
) -> None:
    put(make_frame(300))
    bad: list[str] = []
    wanted = replace(options, strategies=("raising", "composite"))
    steps = list(compute(database, wanted, Selection(), 0, 2**52, bad.append))
    assert [step.job.strategy.name for step in steps] == ["composite"]
    assert bad == ["strategy raising: ZeroDivisionError: division by zero"]


def test_a_large_batch_is_spread_over_processes(
    database: str, put: Put, make_frame: MakeFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    from signals import compute as computing

    put(make_frame(300))
    wanted = SignalOptions(strategies=("composite", "trend"))
    monkeypatch.setattr(computing, "MANY_CANDLES", 10)
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    steps = list(compute(database, wanted, Selection(), 0, 2**52))
    assert sorted(step.job.strategy.name for step in steps) == ["composite", "trend"]
    with connect(database) as connection:
        count = connection.execute("SELECT count(*) FROM signals").fetchone()
    assert count == (sum(len(step.written) for step in steps),)


def test_a_strategy_is_put_together_from_rules() -> None:
    mine = StrategyOptions(
        {"ema_trend": {"fast": 5, "weight": 2.0}, "rsi_reversal": {}},
        timeframes=(Timeframe.M5,),
        confirm=(Timeframe.H1,),
        thresholds=Thresholds(strong=0.9),
    )
    options = SignalOptions(strategies=("mine",), strategy={"mine": mine})
    (strategy,) = configured(options)
    assert [(w.rule.kind, w.weight) for w in strategy.rules] == [("ema_trend", 2.0), ("rsi_reversal", 1.0)]
    assert strategy.rules[0].rule.fast == 5  # type: ignore[attr-defined]
    assert strategy.thresholds.strong == 0.9
    assert strategy.confirming(Timeframe.M5) == (Timeframe.H1,)
    assert strategy.confirming(Timeframe.H1) == ()


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ({"alchemy": {}}, "unknown rule 'alchemy'; use ema_trend"),
        ({"ema_trend": {"speed": 1}}, "no parameter 'speed'"),
        ({"ema_trend": {"fast": 2.5}}, "whole number"),
        ({"ema_trend": {"weight": 0}}, "above 0"),
    ],
)
def test_a_strategy_that_is_put_together_wrongly(rules: dict[str, dict[str, float]], message: str) -> None:
    with pytest.raises(WrongUse, match=message):
        known("mine", SignalOptions(strategy={"mine": StrategyOptions(rules)}))


def test_a_strategy_is_followed_on_its_own_timeframes_only(
    session: Connection, database: str, put: Put, make_frame: MakeFrame
) -> None:
    put(make_frame(200))
    mine = {name: StrategyOptions({"ema_trend": {}}, (each,)) for name, each in (("a", "1m"), ("b", "5m"))}
    options = SignalOptions(strategies=("a", "b"), strategy=mine)  # type: ignore[arg-type]
    stop = Event()
    for steps in run_live(database, options, Selection(), stop):
        assert {step.job.strategy.name for step in steps} == {"a"}
        stop.set()
