"""Alerts past the database: what must be said when the outbox itself is out of reach."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from storage.outbox import Alert, AlertRow, Severity

if TYPE_CHECKING:
    from collections.abc import Sequence

    from alerts.dispatcher import Outlet
    from alerts.plan import Failure

ATTEMPTS = 3
PAUSE_SECONDS = 2.0


def send_directly(outlets: dict[str, Outlet], rows: Sequence[AlertRow]) -> dict[str, Failure | None]:
    """Send each row on its channel at once, all channels beside one another, and close these.

    It is tried again a few times, then given up: nothing remembers it.

    Args:
        outlets: by the channel's name.
        rows: one for each channel at most; those that are suppressed are left out.

    Returns:
        How it failed, by channel; None where it was taken.
    """
    wanted = [row for row in rows if row.status == "pending" and row.channel in outlets]
    with ThreadPoolExecutor(max_workers=max(len(wanted), 1)) as pool:
        found = pool.map(lambda row: _send(outlets[row.channel], row), wanted)
        return dict(zip((row.channel for row in wanted), found, strict=True))


def _send(outlet: Outlet, row: AlertRow) -> Failure | None:
    failure: Failure | None = None
    try:
        for attempt in range(1, ATTEMPTS + 1):
            is_lost = failure is not None and failure.is_answer_lost
            failure = outlet.channel.send([_alert(row, attempt, is_possible_duplicate=is_lost)])
            if failure is None or failure.is_permanent or attempt == ATTEMPTS:
                return failure
            time.sleep(PAUSE_SECONDS)
    finally:
        outlet.channel.close()
    return failure


def _alert(row: AlertRow, attempts: int, *, is_possible_duplicate: bool) -> Alert:
    return Alert(
        id=0,
        timestamp=row.timestamp,
        alert_type=row.alert_type,
        severity=Severity(row.severity),
        title=row.title,
        message=row.message,
        payload=row.payload,
        channel=row.channel,
        status=row.status,
        attempts=attempts,
        is_possible_duplicate=is_possible_duplicate,
        next_attempt_timestamp=None,
        sent_timestamp=None,
        dedupe_key=row.dedupe_key,
        error=None,
        signal_id=None,
        position_id=None,
    )
