from hypothesis import given
from hypothesis import strategies as st

from alerts.plan import Dead, Failure, Policy, Retry, Sent, decide, delay
from market.timeframe import MICROSECONDS

POLICY = Policy()
NOW = 1_800_000_000_000_000


def after(failure: Failure | None, attempts: int) -> Sent | Retry | Dead:
    return decide(failure, attempts=attempts, dedupe_key="k", now=NOW, policy=POLICY)


def test_what_was_taken_is_sent() -> None:
    assert after(None, 1) == Sent()


def test_a_permanent_failure_is_dead_at_once() -> None:
    assert after(Failure("no such chat", is_permanent=True), 1) == Dead("no such chat")


def test_the_last_attempt_is_the_last() -> None:
    assert isinstance(after(Failure("down"), POLICY.attempts - 1), Retry)
    assert after(Failure("down"), POLICY.attempts) == Dead("given up after 10 attempts: down")


def test_a_retry_says_what_failed() -> None:
    failure = Failure("time-out", is_answer_lost=True)
    decision = after(failure, 2)
    assert isinstance(decision, Retry)
    assert decision.failure is failure
    assert decision.at > NOW


@given(st.integers(1, 10_000), st.text(), st.none() | st.integers(0, 10**12))
def test_delays_are_bounded_and_heed_the_channel(attempts: int, key: str, asked: int | None) -> None:
    found = delay(Failure("down", retry_after=asked), attempts, key, POLICY)
    least = min(POLICY.first_delay * 2 ** (attempts - 1), POLICY.longest_delay)
    assert found >= least
    assert found >= (asked or 0)
    assert found <= max(least * (1 + POLICY.jitter), asked or 0)
    assert found == delay(Failure("down", retry_after=asked), attempts, key, POLICY)


@given(st.text())
def test_delays_grow(key: str) -> None:
    delays = [delay(Failure("down"), attempts, key, POLICY) for attempts in range(1, 8)]
    assert delays == sorted(delays)
    assert delays[0] >= 5 * MICROSECONDS
    assert delays[6] >= 320 * MICROSECONDS


def test_alerts_do_not_come_in_step() -> None:
    assert len({delay(Failure("down"), 3, str(number), POLICY) for number in range(50)}) > 40
