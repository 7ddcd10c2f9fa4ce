"""What to do after an attempt to send: pure decisions, without a clock and without a channel."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from market.timeframe import MICROSECONDS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from storage.outbox import Alert


@dataclass(frozen=True, slots=True)
class Policy:
    """How patiently a failing channel is tried again.

    Attributes:
        first_delay: microseconds before the second attempt; each later one waits twice as long.
        longest_delay: microseconds between two attempts at most.
        attempts: after so many an alert is dead.
        jitter: each delay is longer by up to this share of it, so that alerts do not come in step.
    """

    first_delay: int = 5 * MICROSECONDS
    longest_delay: int = 900 * MICROSECONDS
    attempts: int = 10
    jitter: float = 0.25


@dataclass(frozen=True, slots=True)
class Failure:
    """An attempt that did not succeed.

    Attributes:
        reason: for people.
        retry_after: microseconds that the channel asked to wait.
        is_permanent: trying again is of no use.
        is_answer_lost: the channel may have taken it all the same.
    """

    reason: str
    retry_after: int | None = None
    is_permanent: bool = False
    is_answer_lost: bool = False


@dataclass(frozen=True, slots=True)
class Sent:
    """The channel took it."""


@dataclass(frozen=True, slots=True)
class Retry:
    """Try again at `at`, microseconds UTC."""

    at: int
    failure: Failure


@dataclass(frozen=True, slots=True)
class Dead:
    """Do not try again."""

    reason: str


Decision = Sent | Retry | Dead


def decide(failure: Failure | None, *, attempts: int, dedupe_key: str, now: int, policy: Policy) -> Decision:
    """What becomes of an alert after an attempt.

    Args:
        failure: how the attempt failed; None where it did not.
        attempts: how many there were, this one included.
        dedupe_key: the alert's; spreads the delays, the same way each time.
        now: microseconds UTC.
        policy: how patient to be.
    """
    if failure is None:
        return Sent()
    if failure.is_permanent:
        return Dead(failure.reason)
    if attempts >= policy.attempts:
        return Dead(f"given up after {attempts} attempts: {failure.reason}")
    return Retry(now + delay(failure, attempts, dedupe_key, policy), failure)


def decide_together(
    failure: Failure | None, alerts: Sequence[Alert], *, now: int, policy: Policy
) -> dict[Decision, list[int]]:
    """What becomes of the alerts of one message: ids by decision.

    Those that are tried again are so at one time, so that they stay together.

    Args:
        failure: how the attempt failed; None where it did not.
        alerts: in their order, one at least.
        now: microseconds UTC.
        policy: how patient to be.
    """
    first = alerts[0]
    shared = min(first.attempts, policy.attempts - 1)
    decided: dict[Decision, list[int]] = {}
    for alert in alerts:
        attempts = alert.attempts if alert.attempts >= policy.attempts else shared
        decision = decide(failure, attempts=attempts, dedupe_key=first.dedupe_key, now=now, policy=policy)
        decided.setdefault(decision, []).append(alert.id)
    return decided


def delay(failure: Failure, attempts: int, dedupe_key: str, policy: Policy) -> int:
    """Microseconds until the next attempt: doubled each time, never less than the channel asked."""
    # Beyond 40 doublings any first delay is past the longest one.
    backoff = min(policy.first_delay * 2 ** min(attempts - 1, 40), policy.longest_delay)
    spread = _fraction(f"{dedupe_key}:{attempts}") * policy.jitter
    return max(int(backoff * (1 + spread)), failure.retry_after or 0)


def _fraction(text: str) -> float:
    """A number in [0, 1) that `text` alone decides."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=4).digest()) / 2**32
