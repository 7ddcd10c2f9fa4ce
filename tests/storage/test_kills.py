"""Two kills of the server under load; `python -m tests.soak.kills` does fifty."""

import sys
from pathlib import Path

from tests.soak.kills import run_rounds


def test_a_killed_server_loses_nothing_that_it_acknowledged(tmp_path: Path) -> None:
    outcome = run_rounds(11, 2, tmp_path)
    sys.stdout.write(f"{outcome.summary}\n")
    again = "python -m tests.soak.kills --seed 11 --rounds 2"
    assert not outcome.complaints, "\n".join([again, *outcome.complaints])
