from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alerts.pace import WINDOW, Limits, Send, Suppress, Wait, next_step
from market.timeframe import DAY, MICROSECONDS
from storage.outbox import AlertType
from storage.routes import Rule
from storage.sending import Waiting

HOUR = 3600 * MICROSECONDS
NOON = 20_000 * DAY + 12 * HOUR
GROUP = Limits(gap=round(1.1 * MICROSECONDS), per_minute=18, digest_from=5)


def rows(count: int, first: int = 1, severity: str = "info", due: int = 0) -> list[Waiting]:
    return [Waiting(number, severity, 0, due) for number in range(first, first + count)]


def test_nothing_waits() -> None:
    assert next_step([], [], NOON, Limits()) == Wait(None)


def test_one_by_one_in_order() -> None:
    assert next_step(rows(3), [], NOON, Limits()) == Send((1,))


def test_the_order_is_kept_while_the_oldest_waits_for_its_next_attempt() -> None:
    waiting = [*rows(1, due=NOON + 5), *rows(3, 2)]
    assert next_step(waiting, [], NOON, Limits()) == Wait(NOON + 5)
    assert next_step(waiting, [], NOON + 5, Limits()) == Send((1,))


def test_many_become_one_message() -> None:
    assert next_step(rows(1_000), [], NOON, GROUP) == Send(tuple(range(1, 1_001)))
    assert next_step(rows(4), [], NOON, GROUP) == Send((1,))
    assert next_step(rows(9), [], NOON, Limits(digest_from=2, most=3)) == Send((1, 2, 3))
    # What waits for its next attempt ends a digest.
    held = [*rows(6), *rows(1, 7, due=NOON + 1), *rows(5, 8)]
    assert next_step(held, [], NOON, GROUP) == Send((1, 2, 3, 4, 5, 6))


def test_a_gap_and_a_minute_are_waited_for() -> None:
    assert next_step(rows(1), [NOON - 5], NOON, Limits(gap=7)) == Wait(NOON + 2)
    calls = [NOON - 50 * MICROSECONDS, NOON - 9]
    assert next_step(rows(1), calls, NOON, Limits(per_minute=2)) == Wait(NOON + 10 * MICROSECONDS)
    assert next_step(rows(1), calls, NOON, Limits(per_minute=3)) == Send((1,))


@pytest.mark.parametrize(
    ("quiet", "at", "end"),
    [
        ((11 * HOUR, 13 * HOUR), NOON, NOON + HOUR),
        ((22 * HOUR, 7 * HOUR), NOON + 11 * HOUR, NOON + 19 * HOUR),
        ((22 * HOUR, 7 * HOUR), NOON - 6 * HOUR, NOON - 5 * HOUR),
        ((22 * HOUR, 7 * HOUR), NOON, None),
        ((12 * HOUR, 13 * HOUR), NOON, NOON + HOUR),
        ((11 * HOUR, 12 * HOUR), NOON, None),
        ((12 * HOUR, 12 * HOUR), NOON, None),
    ],
)
def test_quiet_hours(quiet: tuple[int, int], at: int, end: int | None) -> None:
    limits = Limits(quiet=quiet)
    assert limits.quiet_until(at) == end
    assert next_step(rows(1), [], at, limits) == (Send((1,)) if end is None else Wait(end))
    assert next_step([*rows(1), *rows(1, 2, "critical")], [], at, limits) == Send((1 if end is None else 2,))


def test_of_what_is_muted_only_what_is_critical_is_sent() -> None:
    waiting = [*rows(2), *rows(1, 3, "critical"), *rows(1, 4, due=NOON + 9)]
    assert next_step(waiting, [], NOON, Limits(), [Rule()]) == Suppress((1, 2), "muted")
    assert next_step(waiting[2:], [], NOON, Limits(), [Rule()]) == Send((3,))
    gaps = Rule(types=(AlertType.DATA_GAP,))
    assert next_step(waiting, [], NOON, Limits(), [gaps]) == Send((1,))
    gap = Waiting(5, "warning", 0, 0, "phone", "data_gap")
    assert next_step([*waiting, gap], [], NOON, Limits(), [gaps]) == Suppress((5,), "muted")


@dataclass
class World:
    """A channel under a virtual clock: what comes when, how long calls take, which fail."""

    limits: Limits
    arrivals: list[int]
    now: int = NOON
    waiting: list[Waiting] = field(default_factory=list)
    calls: list[tuple[int, int]] = field(default_factory=list)
    sent: list[int] = field(default_factory=list)

    def run(self, durations: list[int], failures: list[bool]) -> None:
        to_come = list(enumerate(self.arrivals, 1))
        while True:
            while to_come and NOON + to_come[0][1] <= self.now:
                self.waiting.append(Waiting(to_come.pop(0)[0], "info", 0))
            ends = [end for _, end in self.calls if end > self.now - WINDOW]
            step = next_step(self.waiting, ends, self.now, self.limits)
            if isinstance(step, Wait):
                coming = [NOON + to_come[0][1]] if to_come else []
                until = [*coming, *([] if step.until is None else [step.until])]
                if not until:
                    return
                assert min(until) > self.now
                self.now = min(until)
                continue
            assert isinstance(step, Send)
            begin, number = self.now, len(self.calls)
            self.now += durations[number % len(durations)]
            self.calls.append((begin, self.now))
            if failures and number < len(failures) and failures[number]:
                again = self.now + MICROSECONDS
                self.waiting = [
                    Waiting(r.id, r.severity, 1, again) if r.id in step.ids else r for r in self.waiting
                ]
            else:
                self.sent += step.ids
                self.waiting = [r for r in self.waiting if r.id not in step.ids]


@given(
    st.lists(st.integers(0, 120 * MICROSECONDS), min_size=1, max_size=60).map(sorted),
    st.lists(st.integers(1, 3 * MICROSECONDS), min_size=1, max_size=5),
    st.lists(st.booleans(), max_size=20),
    st.sampled_from(
        [GROUP, Limits(gap=MICROSECONDS, per_minute=3), Limits(per_minute=5, digest_from=2, most=4)]
    ),
)
def test_limits_hold_and_nothing_is_lost_whatever_comes(
    arrivals: list[int], durations: list[int], failures: list[bool], limits: Limits
) -> None:
    world = World(limits, arrivals)
    world.run(durations, failures)
    assert world.sent == list(range(1, len(arrivals) + 1))
    begins, ends = zip(*world.calls, strict=True)
    # Wherever in a call the server takes it, the next one comes no sooner than this.
    assert all(begin - end >= limits.gap for begin, end in zip(begins[1:], ends, strict=False))
    if limits.per_minute:
        many = limits.per_minute
        assert all(begin - end >= WINDOW for begin, end in zip(begins[many:], ends, strict=False))


def test_a_burst_of_a_thousand_is_few_messages() -> None:
    world = World(GROUP, [number * 10_000 for number in range(1_000)])
    world.run([200_000], [])
    assert world.sent == list(range(1, 1_001))
    assert len(world.calls) <= 10
