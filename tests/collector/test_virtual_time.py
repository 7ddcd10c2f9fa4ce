"""A simulated hour across midnight, with faults and renewed connections, stores exactly what happened in it.

`python -m tests.soak.virtual` runs a whole day of it.
"""

import sys
from pathlib import Path

from market import parse_time
from tests.soak.virtual import Plan, run_plan

HOUR = Plan(
    seed=2,
    start=parse_time("2026-03-01T23:30:00Z"),
    hours=1,
    speed=400,
    every=300,
    renew_every=1500,
)


def test_an_hour_across_midnight_passes_in_seconds(database: str, tmp_path: Path) -> None:
    outcome = run_plan(HOUR, database, tmp_path)
    sys.stdout.write(f"{outcome.summary}\n")
    assert outcome.complaints == []
