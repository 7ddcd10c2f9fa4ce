from simulated import START, Steps

from collector.simulator.clock import Pace, default_start
from market import DAY


def test_pace_never_overtakes_the_present_but_may_live_in_the_future() -> None:
    clock = Steps(START)
    past, future = Pace(START - 100, 1000, clock), Pace(START + 100, 1000, clock)
    assert (past.begin(), future.begin()) == (START - 100, START + 100)
    clock.passed = 7.0
    assert past.target() == clock.now()
    assert future.target() == START + 100 + 6_001_000_000
    assert past.is_live(past.target())
    assert not future.is_live(future.target())
    slow = Pace(START, 0.5, clock)
    slow.begin()
    clock.passed = 9.0
    assert slow.target() == START + 1_000_000


def test_default_start() -> None:
    clock = Steps(START + 5_000_000)
    assert default_start(1, clock) is None
    assert default_start(2, clock) == START - DAY
