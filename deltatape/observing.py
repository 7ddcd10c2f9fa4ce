"""What a process that collects tells of itself: its endpoint, its metrics in the database, its ping."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, nullcontext
from typing import TYPE_CHECKING

from collector.reporting import keep_reporting
from deltatape.deadman import keep_pinging
from deltatape.endpoint import serving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from deltatape.endpoint import Health
    from deltatape.settings import Settings


@asynccontextmanager
async def observed(
    settings: Settings, url: str, health: Health, *, listen: str | None = None
) -> AsyncIterator[str | None]:
    """While the context lasts, answer `/metrics` and `/health`, store metrics, and ping; gives the address.

    Args:
        settings: `[endpoint]` and `[deadman]`; nothing is answered or pinged that is not set there.
        url: the database that metrics go to.
        health: what is told.
        listen: where to answer, instead of what the settings say.

    Raises:
        WrongUse: the address is none, public, or taken.
    """
    where = listen or settings.endpoint.listen
    with serving(where, health) if where else nullcontext() as address:
        beside = [
            asyncio.create_task(keep_reporting(url, health.readings)),
            asyncio.create_task(keep_pinging(settings.deadman, health.is_healthy)),
        ]
        try:
            yield address
        finally:
            for task in beside:
                task.cancel()
            await asyncio.gather(*beside, return_exceptions=True)
