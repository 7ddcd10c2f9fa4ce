"""Walking forward: what is chosen over one span of candles is judged over the next, which it never saw."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from market.errors import WrongUse

if TYPE_CHECKING:
    from signals.frame import CandleFrame

MOST_FOLDS = 100
_LEAST_CANDLES = 10
"""Of a span: over fewer nothing can be judged."""


class Fold(NamedTuple):
    """One step: its number from 1, the candles that decide, and those after them that judge."""

    number: int
    in_sample: CandleFrame
    out_of_sample: CandleFrame


def walk_forward(frame: CandleFrame, count: int) -> list[Fold]:
    """So many steps forward over the candles.

    The candles are cut into `count` + 1 spans of equally many. Step k decides over the first k spans and
    judges over the one after them, so that every candle but the first span's judges once.

    Raises:
        WrongUse: too many steps, or too few candles for them.
    """
    if not 1 <= count <= MOST_FOLDS:
        raise WrongUse(f"{count} folds make no sense: 1 … {MOST_FOLDS}")
    spans = count + 1
    if len(frame) < spans * _LEAST_CANDLES:
        raise WrongUse(
            f"{len(frame):,} candles are too few for {count} folds: at least {spans * _LEAST_CANDLES:,}"
        )
    edges = [len(frame) * i // spans for i in range(spans + 1)]
    return [
        Fold(number, frame.part(0, edges[number]), frame.part(edges[number], edges[number + 1]))
        for number in range(1, spans)
    ]
