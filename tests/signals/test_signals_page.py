"""docs/signals.md says what the code says, and its SQL runs."""

import re
from pathlib import Path

import pytest

from signals import calibration
from signals.options import HORIZON, HORIZONS, Thresholds
from signals.outcomes import ROUND_TRIP
from storage.database import Connection

TEXT = (Path(__file__).parent.parent.parent / "docs" / "signals.md").read_text()
PAGE = " ".join(TEXT.split())
(EXAMPLE,) = re.findall(r"```sql\n(.*?)```", TEXT, re.DOTALL)


def test_the_page_has_the_numbers_of_the_code() -> None:
    limits = Thresholds()
    for words in (
        f"from {limits.strong} | `STRONG_BUY`",
        f"from {limits.weak} | `BUY`",
        f"({ROUND_TRIP * 1e4:.0f} basis points",
        f"horizons are a setting: {', '.join(map(str, HORIZONS[:-1]))} and {HORIZONS[-1]} candles",
        f"is right {HORIZON} candles later",
        f"on the {calibration.WINDOW:,} candles before the cut",
        f"at least {calibration._FEWEST_IN_BIN}.",
        f"fewer than {calibration.FEWEST} signals",
        f"`MEDIUM` from a confidence of {limits.medium:g} (`medium`), `HIGH` from {limits.high:g}",
    ):
        assert words in PAGE


def test_calibrations_unfold_into_bins(session: Connection) -> None:
    bins = (
        '[{"lowest": 0.2, "count": 200, "right": 80, "chance": 0.4},'
        ' {"lowest": 0.5, "count": 200, "right": 101, "chance": 0.505}]'
    )
    session.execute(
        "INSERT INTO calibrations (strategy_name, config_hash, exchange, symbol, interval, horizon,"
        " cutoff_timestamp, window_from, bins, sample_count)"
        " VALUES ('composite', 'c', 'kraken', 'BTC/USD', '5m', '80 min', '2026-03-01', '2026-01-01', %s, 9)",
        (bins,),
    )
    rows = session.execute(EXAMPLE).fetchall()
    assert [row[1:5] for row in rows] == [(9, 0.2, 200, 80), (9, 0.5, 200, 101)]
    assert [float(row[5]) for row in rows] == pytest.approx([40.0, 50.5])
