"""A channel to a program of one's own: signed JSON over HTTP.

The body is ``{"alerts": [...]}``. `X-Deltatape-Timestamp` is the time of the call in seconds since 1970;
`X-Deltatape-Signature` is ``sha256=`` and the HMAC-SHA256 (RFC 2104), in hexadecimal, of that number, a full
stop and the body, by the shared secret. Who receives it compares both, and takes nothing that is old.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
from typing import TYPE_CHECKING, Any

import httpx
from msgspec import structs

from alerts.plan import Failure
from market.timeframe import MICROSECONDS, format_time

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from storage.outbox import Alert

TIMEOUT = httpx.Timeout(10.0, connect=5.0)
_SAID = ("id", "alert_type", "severity", "title", "message", "payload", "dedupe_key", "is_possible_duplicate")
_TRY_AGAIN = frozenset((408, 425, 429))
"""Answers below 500 that do not mean that the request is wrong."""
# It names the address of each call.
logging.getLogger("httpx").setLevel(logging.WARNING)
# Gateways: what is behind them may have taken it.
_UNKNOWN = frozenset((502, 504))


class WebhookChannel:
    """POSTs alerts.

    Args:
        url: where to. It may hold a secret, and stands in no message.
        secret: signs what is sent.
        clock: gives the time in microseconds UTC.
    """

    def __init__(self, url: str, secret: str, clock: Callable[[], int]) -> None:
        self._url = url
        self._secret = secret
        self._clock = clock
        self._http = httpx.Client(timeout=TIMEOUT)

    def send(self, alerts: Sequence[Alert]) -> Failure | None:
        """POST these; only an answer of 200 to 299 is a success."""
        body = json.dumps({"alerts": [_plain(alert) for alert in alerts]}, allow_nan=False).encode()
        seconds = str(self._clock() // MICROSECONDS)
        headers = {
            "Content-Type": "application/json",
            "X-Deltatape-Timestamp": seconds,
            "X-Deltatape-Signature": signature(self._secret, seconds, body),
        }
        try:
            # How long an answer is nobody has promised: it is not read.
            with self._http.stream("POST", self._url, content=body, headers=headers) as answer:
                return None if answer.is_success else _refusal(answer)
        except (
            httpx.ConnectError,
            httpx.ConnectTimeout,
            httpx.PoolTimeout,
            httpx.UnsupportedProtocol,
        ) as error:
            return Failure(f"the webhook is out of reach: {type(error).__name__}")
        except httpx.HTTPError as error:
            return Failure(f"the webhook did not answer: {type(error).__name__}", is_answer_lost=True)

    def close(self) -> None:
        """Close its connections."""
        self._http.close()


def signature(secret: str, seconds: str, body: bytes) -> str:
    """What `X-Deltatape-Signature` must be."""
    digest = hmac.new(secret.encode(), f"{seconds}.".encode() + body, hashlib.sha256)
    return f"sha256={digest.hexdigest()}"


def _plain(alert: Alert) -> dict[str, Any]:
    known = structs.asdict(alert)
    return {"timestamp": format_time(alert.timestamp)} | {name: known[name] for name in _SAID}


def _refusal(answer: httpx.Response) -> Failure:
    status = answer.status_code
    asked = answer.headers.get("Retry-After", "")
    return Failure(
        f"the webhook answers {status}",
        retry_after=int(asked) * MICROSECONDS if asked.isdecimal() and len(asked) < 7 else None,
        is_permanent=status < 500 and status not in _TRY_AGAIN,
        is_answer_lost=status in _UNKNOWN,
    )
