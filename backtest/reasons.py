"""Which reasons brought profit: what spoke for a position's entry, and what closed it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from backtest.tables import Columns, position_columns

if TYPE_CHECKING:
    from backtest.batch import Record
    from backtest.run import Setup
    from signals.frame import CandleFrame


def profit_by_reason(setup: Setup, frame: CandleFrame, record: Record) -> Columns:
    """One row per reason, entries before exits, the more profitable first.

    A position counts for every reason that spoke for its entry (of a live strategy each rule on the side
    of its signal), and for the one of its exit. `when` is entry or exit; pnl is net of fees.
    """
    positions = position_columns(record)
    groups: dict[tuple[str, str], list[int]] = {}
    for place, reasons in enumerate(_entry_reasons(setup, frame, positions)):
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


def _entry_reasons(setup: Setup, frame: CandleFrame, positions: Columns) -> list[tuple[str, ...]]:
    """What spoke for each position: at the last signal before its entry."""
    strategy, count = setup.strategy, len(positions["side"])
    if strategy.reasons is None or not count:
        return [(strategy.name,)] * count
    candle = strategy.signals(frame, setup.values).candle
    known = frame.close_time[candle]
    last = np.searchsorted(known, positions["entry_timestamp"], side="right") - 1
    cited, place = np.unique(candle[last], return_inverse=True)
    reasons = strategy.reasons(frame, setup.values, cited)
    return [reasons[i] for i in place]
