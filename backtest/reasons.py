"""Which reasons brought profit: what spoke for a position's entry, and what closed it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from backtest.tables import Columns, position_columns, position_instruments

if TYPE_CHECKING:
    from collections.abc import Sequence

    from backtest.batch import Integers, Record
    from backtest.setup import Setup
    from signals.frame import CandleFrame


def profit_by_reason(setup: Setup, frames: Sequence[CandleFrame], record: Record) -> Columns:
    """One row per reason, entries before exits, the more profitable first.

    A position counts for every reason that spoke for its entry (of a live strategy each rule on the side
    of its signal), and for the one of its exit. `when` is entry or exit; pnl is net of fees and funding.
    `frames` are those of the instruments, in the order of their numbers.
    """
    positions = position_columns(record)
    instrument = position_instruments(record)
    groups: dict[tuple[str, str], list[int]] = {}
    for number, frame in enumerate(frames):
        mine = np.flatnonzero(instrument == number)
        said = _entry_reasons(setup, frame, positions["entry_timestamp"][mine])
        for place, reasons in zip(mine.tolist(), said, strict=True):
            for reason in reasons:
                groups.setdefault(("entry", reason), []).append(place)
    for place, reason in enumerate(positions["exit_reason"].tolist()):
        groups.setdefault(("exit", reason), []).append(place)
    pnl = positions["pnl"]
    sums = {group: float(pnl[places].sum()) for group, places in groups.items()}
    ordered = sorted(groups, key=lambda group: (group[0], -sums[group], group[1]))
    return {
        "when": np.array([when for when, _ in ordered], dtype=str),
        "reason": np.array([reason for _, reason in ordered], dtype=str),
        "positions": np.array([len(groups[group]) for group in ordered], dtype=np.int64),
        "won": np.array([(pnl[groups[group]] > 0).sum() for group in ordered], dtype=np.int64),
        "pnl": np.array([sums[group] for group in ordered], dtype=np.float64),
    }


def _entry_reasons(setup: Setup, frame: CandleFrame, entries: Integers) -> list[tuple[str, ...]]:
    """What spoke for each entry: at the last signal before it."""
    strategy = setup.strategy
    if strategy.reasons is None or not len(entries):
        return [(strategy.name,)] * len(entries)
    candle = strategy.signals(frame, setup.values).candle
    known = frame.close_time[candle]
    last = np.searchsorted(known, entries, side="right") - 1
    cited, place = np.unique(candle[last], return_inverse=True)
    reasons = strategy.reasons(frame, setup.values, cited)
    return [reasons[i] for i in place]
