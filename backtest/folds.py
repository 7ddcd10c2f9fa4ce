"""Walking forward: what is chosen over one span of candles is judged over the next, which it never saw."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from backtest.tape import Funding
from market.errors import WrongUse

if TYPE_CHECKING:
    from backtest.feeds import Source
    from signals.frame import CandleFrame

MOST_FOLDS = 100
_LEAST_CANDLES = 10
"""Of a span: over fewer nothing can be judged."""


class Fold(NamedTuple):
    """One step: its number from 1, the span that decides, and the one after it that judges."""

    number: int
    in_sample: Source
    out_of_sample: Source


def walk_forward(source: Source, count: int) -> list[Fold]:
    """So many steps forward over an instrument that is fed with candles, and funding of a contract.

    The candles are cut into `count` + 1 spans of equally many. Step k decides over the first k spans and
    judges over the one after them, so that every candle but the first span's judges once.

    Raises:
        WrongUse: too many steps, or too few candles for them.
    """
    if not 1 <= count <= MOST_FOLDS:
        raise WrongUse(f"{count} folds make no sense: 1 … {MOST_FOLDS}")
    spans, frame = count + 1, source.frame
    if len(frame) < spans * _LEAST_CANDLES:
        raise WrongUse(
            f"{len(frame):,} candles are too few for {count} folds: at least {spans * _LEAST_CANDLES:,}"
        )
    edges = [len(frame) * i // spans for i in range(spans + 1)]
    return [
        Fold(
            number,
            _over(source, frame.part(0, edges[number])),
            _over(source, frame.part(edges[number], edges[number + 1])),
        )
        for number in range(1, spans)
    ]


def _over(source: Source, part: CandleFrame) -> Source:
    """What happens over a part of the candles, as if no others were known."""
    since, until = int(part.timestamp[0]), int(part.close_time[-1])
    funding, end = source.funding, source.delisted
    if funding is not None:
        begin, stop = np.searchsorted(funding.timestamp, (since, until)).tolist()
        time, rate, mark = funding
        funding = Funding(time[begin:stop], rate[begin:stop], mark[begin:stop]) if begin < stop else None
    return replace(
        source, frame=part, funding=funding, delisted=end if end and since < end <= until else None
    )
