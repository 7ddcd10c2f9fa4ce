"""Ending in order: Ctrl-C and SIGTERM stop a command that would run for ever."""

import asyncio
import signal
from collections.abc import Coroutine


async def until_stopped(work: Coroutine[None, None, None]) -> bool:
    """Run `work` until it ends or the user stops it; whether it ended by itself. Its failure is raised."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    working, stopping = asyncio.create_task(work), asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)
        stopping.cancel()
        has_ended = working.done()
        working.cancel()
        await asyncio.gather(working, stopping, return_exceptions=True)
    if has_ended:
        working.result()
    return has_ended
