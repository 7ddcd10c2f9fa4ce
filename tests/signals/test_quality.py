import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from market import Timeframe, WrongUse
from signals.measures import information_coefficient, wilson
from signals.quality import Quality, Selected, Share, measure
from signals.quality_plot import quality_plot
from storage.database import Connection, connect

BEGIN = datetime(2026, 1, 5, tzinfo=UTC)
HORIZONS = (1, 16)
TYPES = ("STRONG_BUY", "BUY", "SELL", "STRONG_SELL")


@dataclass(frozen=True)
class Planted:
    symbol: str
    minute: int
    kind: str
    level: str
    confidence: float
    score: float
    contributions: dict[str, float]
    returns: dict[int, float]
    interval: str = "1m"


def planted(count: int = 600, seed: int = 1) -> list[Planted]:
    """Signals of two markets whose chance to be right after 16 candles is their confidence."""
    rng = np.random.default_rng(seed)
    found = []
    for i in range(count):
        kind = TYPES[int(rng.integers(4))]
        strong, sign = kind.startswith("STRONG"), 1 if "BUY" in kind else -1
        confidence = 50.0 if rng.random() < 0.5 else 60.0
        is_right = rng.random() < confidence / 100
        found.append(
            Planted(
                symbol=("A/B", "C/D")[i % 2],
                minute=int(i // 2 * 12 + rng.integers(12)),
                kind=kind,
                level="MEDIUM" if confidence > 55 else "LOW",
                confidence=confidence,
                score=sign * (0.6 if strong else 0.3),
                contributions={"trend": sign * 0.7, "flow": float(rng.choice([-0.1, 0.0, 0.1]))},
                returns={
                    1: float(rng.normal(0, 1e-3)),
                    16: (1 if is_right else -1) * float(rng.uniform(0, 0.02)),
                },
            )
        )
    return found


def put(
    connection: Connection,
    signals: list[Planted],
    *,
    strategy: str = "trend",
    config: str = "c",
    revision: int = 0,
    is_withdrawn: bool = False,
) -> None:
    calibration = connection.execute(
        "INSERT INTO calibrations (strategy_name, config_hash, exchange, symbol, interval, horizon,"
        " cutoff_timestamp, window_from, bins, sample_count)"
        " VALUES (%s, %s, 'x', 'A/B', '1m', '16 min', %s, %s, '[]', 0)"
        " ON CONFLICT ON CONSTRAINT calibrations_cut_key DO UPDATE SET bins = '[]' RETURNING id",
        (strategy, config, BEGIN, BEGIN),
    ).fetchone()
    assert calibration
    with connection.cursor() as cursor:
        for each in signals:
            length = timedelta(microseconds=Timeframe(each.interval).microseconds)
            cursor.execute(
                "INSERT INTO signals (timestamp, exchange, symbol, interval, strategy_name, config_hash,"
                " revision, is_withdrawn, signal_type, confidence_score, confidence_level, calibration_id,"
                " score, price, metadata)"
                " VALUES (%s, 'x', %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, 1, %s) RETURNING id",
                (
                    BEGIN + each.minute * length,
                    each.symbol,
                    each.interval,
                    strategy,
                    config,
                    revision,
                    is_withdrawn,
                    each.kind,
                    each.confidence,
                    each.level,
                    calibration[0] if each.confidence != 55.0 else None,
                    each.score,
                    json.dumps({"contributions": each.contributions}),
                ),
            )
            (number,) = cursor.fetchone() or (0,)
            cursor.executemany(
                "INSERT INTO signal_outcomes VALUES (%s, %s, %s, %s, %s)",
                [
                    (number, horizon * length, BEGIN + (each.minute + horizon) * length, value, value > 0)
                    for horizon, value in each.returns.items()
                ],
            )


@pytest.fixture
def tape(database: str) -> Iterator[Connection]:
    with connect(database) as connection:
        yield connection


def independent(signals: list[Planted], horizon: int) -> list[Planted]:
    """Those of each market that follow the one before by a horizon at least."""
    taken: list[Planted] = []
    for symbol in ("A/B", "C/D"):
        last = -horizon
        for each in sorted((s for s in signals if s.symbol == symbol), key=lambda s: s.minute):
            if each.minute >= last + horizon:
                taken.append(each)
                last = each.minute
    return taken


def expected(name: str, horizon: int, signals: list[Planted]) -> Share:
    returns = [each.returns[horizon] for each in signals]
    right = sum(value > 0 for value in returns)
    count, apart = len(returns), len(independent(signals, horizon))
    low, high = wilson(right / count, apart)
    average = pytest.approx(1e4 * float(np.mean(returns)))
    return Share("trend", "1m", horizon, name, count, right, apart, right / count, low, high, average)


def test_shares_are_those_of_a_slow_count(tape: Connection) -> None:
    signals = planted()
    put(tape, signals)
    found = measure(tape, Selected())
    assert found.series == [("trend", "1m")]
    assert found.decay == [expected("all", horizon, signals) for horizon in HORIZONS]
    assert found.types == [
        expected(kind, horizon, [s for s in signals if s.kind == kind])
        for horizon in HORIZONS
        for kind in TYPES
    ]
    assert found.levels == [
        expected(level, horizon, [s for s in signals if s.level == level])
        for horizon in HORIZONS
        for level in ("MEDIUM", "LOW")
    ]
    arguments = {
        "trend": signals,
        "flow": [s for s in signals if s.contributions["flow"] * s.score > 0],
        "flow (against)": [s for s in signals if s.contributions["flow"] * s.score < 0],
    }
    for horizon in HORIZONS:
        reasons = [each for each in found.reasons if each.horizon == horizon]
        assert {each.name: each for each in reasons} == {
            name: expected(name, horizon, those) for name, those in arguments.items()
        }
        assert reasons == sorted(reasons, key=lambda each: -each.average_bps)


def test_the_information_coefficient_is_of_samples_that_do_not_overlap(tape: Connection) -> None:
    signals = planted()
    put(tape, signals)
    for found in measure(tape, Selected()).information:
        taken = independent(signals, found.horizon)
        moves = [np.sign(s.score) * (s.returns[found.horizon] + 0.0022) for s in taken]
        slow = information_coefficient(np.array([s.score for s in taken]), np.array(moves))
        assert (found.value, found.band, found.samples) == (pytest.approx(slow.value), slow.band, len(taken))
        assert found.samples < len(signals) or found.horizon == 1


def test_the_curve_holds_what_was_calibrated_at_its_own_horizon(tape: Connection) -> None:
    signals = planted()
    # Of these no calibration said anything.
    signals += [replace(s, confidence=55.0, minute=s.minute + 10_000) for s in planted(100, seed=2)]
    put(tape, signals)
    low, high = measure(tape, Selected()).calibration
    taken = independent([s for s in signals if s.confidence != 55.0], 16)
    for point, promised in ((low, 50.0), (high, 60.0)):
        those = [s for s in taken if s.confidence == promised]
        assert (point.promised, point.signals) == (pytest.approx(promised / 100), len(those))
        assert point.right == sum(s.returns[16] > 0 for s in those)
        assert (point.low, point.high) == wilson(point.right / point.signals, point.signals)
        assert point.is_inside == (point.low <= promised / 100 <= point.high)


def test_only_what_today_holds_counts(tape: Connection) -> None:
    signals = planted(40)
    put(tape, planted(30, seed=3), config="older")
    put(tape, signals)
    put(tape, [replace(signals[0], returns={1: 0.5, 16: 0.5})], revision=1)
    put(tape, [replace(signals[1], returns={})], revision=1, is_withdrawn=True)
    today = [replace(signals[0], returns={1: 0.5, 16: 0.5}), *signals[2:]]
    assert measure(tape, Selected()).decay == [expected("all", horizon, today) for horizon in HORIZONS]


def test_signals_can_be_selected(tape: Connection) -> None:
    signals = planted(60)
    put(tape, signals)
    put(tape, [replace(s, interval="1d") for s in planted(20, seed=4)], strategy="composite")
    found = measure(tape, Selected())
    assert found.series == [("composite", "1d"), ("trend", "1m")]
    assert measure(tape, Selected(strategy="trend")).series == [("trend", "1m")]
    assert measure(tape, Selected(interval=Timeframe.D1)).series == [("composite", "1d")]
    part = measure(tape, Selected(strategy="trend", exchange="x", symbol="C/D")).decay
    assert part[0] == expected("all", 1, [s for s in signals if s.symbol == "C/D"])
    assert measure(tape, Selected(exchange="y")) == Quality([], [], [], [], [], [])


@pytest.mark.parametrize("kind", ["png", "svg", "pdf"])
def test_it_can_be_drawn(tape: Connection, tmp_path: Path, kind: str) -> None:
    put(tape, planted(120))
    put(tape, [replace(s, confidence=55.0) for s in planted(20, seed=4)], strategy="composite")
    path = quality_plot(tmp_path / "new" / f"quality.{kind}", measure(tape, Selected()), 16)
    content = path.read_bytes()
    assert len(content) > 20_000
    assert content.startswith({"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF"}[kind])


def test_what_cannot_be_drawn_is_refused(tape: Connection, tmp_path: Path) -> None:
    nothing = Quality([], [], [], [], [], [])
    with pytest.raises(WrongUse, match="choose with --strategy and --timeframe"):
        quality_plot(tmp_path / "quality.png", nothing, 16)
    put(tape, planted(20))
    with pytest.raises(WrongUse, match=r"ends in \.png"):
        quality_plot(tmp_path / "quality.xyz", measure(tape, Selected()), 16)
