"""A simulated exchange that runs while a test calls commands."""

import asyncio

from collector.simulator.server import serve
from market import parse_time

SIMULATED = ("--exchange", "simulated", "--symbol", "BTC/USDT")


def during(start, job, speed=1.0, symbol="BTC/USDT", protocol="binance"):
    """What `job(REST URL, websocket URL)` gives, beside an exchange whose time begins at `start`."""

    async def scenario():
        async with serve([symbol], 7, protocol=protocol, start=parse_time(start), speed=speed) as simulator:
            address = simulator.address
            return await asyncio.to_thread(job, address.rest_url, address.ws_url)

    return asyncio.run(scenario())
