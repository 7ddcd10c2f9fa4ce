"""One exchange's REST interface: GETs at the rate that it allows, and silence for as long as it asks for."""

import asyncio
import logging
import time
from collections.abc import Callable
from email.utils import parsedate_to_datetime
from math import isnan
from urllib.parse import unquote, urlsplit, urlunsplit

import httpx

from collector.exchanges.adapter import RestRequest
from market import Unavailable

log = logging.getLogger(__name__)

TIMEOUT = 10.0
USER_AGENT = "deltatape"
_REFUSING = (403, 418, 429)
DEFAULT_PAUSE = 10.0
"""Seconds of silence after a refusal that does not say how long; doubled while refusals go on."""
MAX_PAUSE = 600.0
_MAX_RETRY_AFTER = 3 * 86_400.0


class Refused(Unavailable):
    """The exchange answered: too many requests."""


class Rest:
    """GETs against one exchange.

    Args:
        exchange: its id, for messages.
        base: scheme, host and port; empty: there is no REST interface, and every answer is None.
        rate: request weight a second, and how much of it may be spent at once.
        on_answer: told of each answer: URL, body.
    """

    def __init__(
        self,
        exchange: str,
        base: str,
        rate: tuple[float, float],
        on_answer: Callable[[str, bytes], None] = lambda _url, _body: None,
    ) -> None:
        self.exchange = exchange
        self.refusals = 0
        self.base = without_user(base.rstrip("/"))
        self._per_second, self._burst = rate
        self._tokens = self._burst
        self._filled_at = time.monotonic()
        self._blocked_until = 0.0
        self._refused_in_row = 0
        self._on_answer = on_answer
        self._turn = asyncio.Lock()
        # Not in the URL: that is written into logs and recordings.
        user = urlsplit(base)
        auth = (unquote(user.username), unquote(user.password or "")) if user.username else None
        self._http = httpx.AsyncClient(timeout=TIMEOUT, headers={"User-Agent": USER_AGENT}, auth=auth)

    @property
    def is_there(self) -> bool:
        """Whether there is a REST interface to ask."""
        return bool(self.base)

    @property
    def blocked_for(self) -> float:
        """Seconds for which the exchange asked us to be silent."""
        return max(0.0, self._blocked_until - time.monotonic())

    async def get(self, request: RestRequest) -> bytes | None:
        """The answer's body; None for what the other side does not have (404). Waits for its turn.

        Raises:
            Refused: too many requests; later ones wait for as long as was asked for.
            Unavailable: no answer, or an error.
        """
        if not self.base:
            return None
        url = f"{self.base}{request.path}"
        async with self._turn:
            await self._wait(request.weight)
        try:
            response = await self._http.get(url)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            reason = str(error) or type(error).__name__
            raise Unavailable(f"cannot reach {self.exchange} at {url}: {reason}") from None
        if response.status_code == httpx.codes.NOT_FOUND:
            return None
        if response.status_code in _REFUSING:
            raise Refused(f"{url} answers {response.status_code}: silent for {self._obey(response):.0f} s")
        if not response.is_success:
            raise Unavailable(f"{url} answers {response.status_code}: {response.text[:200]}")
        self._refused_in_row = 0
        self._on_answer(url, response.content)
        return response.content

    async def close(self) -> None:
        """Close its connections."""
        await self._http.aclose()

    async def _wait(self, weight: float) -> None:
        while (pause := self.blocked_for) > 0:
            await asyncio.sleep(pause)
        weight = min(weight, self._burst)
        while True:
            now = time.monotonic()
            self._tokens = min(self._burst, self._tokens + (now - self._filled_at) * self._per_second)
            self._filled_at = now
            if self._tokens >= weight:
                self._tokens -= weight
                return
            await asyncio.sleep((weight - self._tokens) / self._per_second)

    def _obey(self, response: httpx.Response) -> float:
        """Be silent for as long as the answer asks for; the seconds."""
        self.refusals += 1
        asked = retry_after(response.headers.get("Retry-After"))
        if asked is None:
            asked = min(DEFAULT_PAUSE * 2 ** min(self._refused_in_row, 10), MAX_PAUSE)
        self._refused_in_row += 1
        self._blocked_until = max(self._blocked_until, time.monotonic() + asked)
        log.warning(
            "%s: too many requests (%d): silent for %.0f s", self.exchange, response.status_code, asked
        )
        return asked


def without_user(url: str) -> str:
    """`url` as it may be shown: without a user and a password before its host."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def retry_after(header: str | None) -> float | None:
    """The seconds that a Retry-After header asks for, as a number or as a date; None without one."""
    if header is None:
        return None
    try:
        seconds = float(header)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(header).timestamp() - time.time()
        except ValueError:
            return None
    return None if isnan(seconds) else min(max(seconds, 0.0), _MAX_RETRY_AFTER)
