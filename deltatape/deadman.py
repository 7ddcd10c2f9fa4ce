"""A ping to an outside service while all is well: what must be noticed is that it stops.

Such services (dead-man switches) alarm when a ping is overdue, so they tell of a machine, a database or a
process that can no longer tell anything itself.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

import httpx

if TYPE_CHECKING:
    from collections.abc import Callable

    from deltatape.settings import DeadmanOptions

log = logging.getLogger(__name__)

TIMEOUT = 10.0


async def keep_pinging(options: DeadmanOptions, is_healthy: Callable[[], bool]) -> None:
    """GET the address each `every` seconds while `is_healthy()`, until cancelled; at once without an address.

    A ping that fails is logged when pings begin to fail, and once more when they arrive again.
    """
    if options.url is None:
        return
    url = options.url.get_secret_value()
    has_failed = False
    async with httpx.AsyncClient(timeout=TIMEOUT, follow_redirects=True) as http:
        while True:
            if is_healthy():
                reason = await _ping(http, url)
                # The address is a secret: who has it can keep a dead collector's alarm silent.
                if reason and not has_failed:
                    log.warning("the dead-man ping does not arrive: %s", reason)
                elif has_failed and not reason:
                    log.warning("the dead-man ping arrives again")
                has_failed = bool(reason)
            await asyncio.sleep(options.every)


async def _ping(http: httpx.AsyncClient, url: str) -> str:
    """Why it failed; empty when it was taken."""
    try:
        async with asyncio.timeout(TIMEOUT):
            response = await http.get(url)
    except (httpx.HTTPError, TimeoutError) as error:
        return type(error).__name__
    return "" if response.is_success else f"it answers {response.status_code}"
