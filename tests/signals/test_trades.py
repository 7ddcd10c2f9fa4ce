"""Rules that read the trades of candles: live, in chunks and in batch."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from conftest import put_candles

from market import Side, Trade
from signals import follow as following
from signals.check import check
from signals.engine import evaluate
from signals.follow import Following, Job, recompute
from signals.frame import Array, CandleFrame
from signals.indicator_values import trades_of
from signals.rows import SignalRow, signal_rows
from signals.rules import BookPressure
from signals.store import Span, _newest
from signals.strategies import Strategy, Weighted
from signals.target import Target
from storage.database import Connection
from storage.tape import write_trades

MakeFrame = Callable[..., CandleFrame]


class AboveValue(BookPressure):
    """Sells above the price of most volume."""

    kind = "above_value"
    cites = ("close", "volume_profile_5_20.poc")  # type: ignore[assignment]

    def score(self, values: Mapping[str, Array]) -> Array:  # type: ignore[override]
        return np.clip((values[self.cites[1]] - values["close"]) / values["close"] * 200, -1, 1)

    def reason(self, values: Mapping[str, float]) -> str:
        return f"close {values['close']:g} against {values[self.cites[1]]:g}"


STRATEGY = Strategy("value", (Weighted(AboveValue(), 1.0),))


def trades_in(frame: CandleFrame, target: Target, from_: int) -> list[tuple[Trade, float]]:
    """Two trades a candle, a buy and a sell, that add up to it."""
    found = []
    for i, (time, price) in enumerate(zip(frame.timestamp.tolist(), frame.close.tolist(), strict=True)):
        for side, size in ((Side.BUY, frame.buy_volume[i]), (Side.SELL, frame.sell_volume[i])):
            number = 2 * (from_ + i) + (side is Side.SELL)
            found.append(
                (
                    Trade(target.symbol, time + number % 2, str(number), number, price, float(size), side, 1),
                    0.0,
                )
            )
    return found


def stored(connection: Connection, job: Job) -> list[SignalRow]:
    span = Span(job.key, 0, 2**52)
    found = _newest(connection, [span])[span].values()
    return [old.row for old in found if not old.is_withdrawn]


def test_live_in_chunks_equals_the_batch(
    session: Connection, target: Target, make_frame: MakeFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    frame = make_frame(400, holes=(150, 151))
    # Three decimals, as sizes have them: so that trades add up to their candle.
    buying, selling = np.round(frame.buy_volume + 0.001, 3), np.round(frame.sell_volume + 0.001, 3)
    frame = replace(frame, buy_volume=buying, sell_volume=selling, volume=buying + selling)
    job = Job(STRATEGY, target)
    monkeypatch.setattr(following, "CHUNK_WITH_TRADES", 37)
    for start, stop in pairwise([0, 3, 100, 101, 160, 399, 400]):
        part = frame.part(start, stop)
        put_candles(session, target, part)
        write_trades(session, target.exchange, trades_in(part, target, start), None)
        list(Following(session).follow([job]))
    whole = frame.with_trades(trades_of(session, target, 0, 2**52))
    series = evaluate(STRATEGY, whole)
    # A profile wants five candles; it begins anew behind the hole.
    assert np.isfinite(series.score).sum() == len(frame) - 2 * 4
    assert stored(session, job) == signal_rows(STRATEGY, whole, 0, series, None)
    assert len(stored(session, job)) > 20
    assert [each for _, each in check(STRATEGY, whole, {}, 20) if each is not None] == []
    session.execute("DELETE FROM signals")
    list(recompute(session, job, 0, 2**52))
    assert stored(session, job) == signal_rows(STRATEGY, whole, 0, series, None)


def test_without_trades_it_has_no_opinion(make_frame: MakeFrame) -> None:
    assert np.isnan(evaluate(STRATEGY, make_frame(100)).score).all()
