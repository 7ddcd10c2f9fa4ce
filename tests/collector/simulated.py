"""What the simulator's tests share: time that jumps, subscribers, and the trades that must have happened."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from websockets.asyncio.client import ClientConnection, connect

from collector.simulator.market import SimulatedMarket
from collector.simulator.server import Simulator
from market import MICROSECONDS, parse_time

START = parse_time("2026-01-01")
SYMBOLS = ("BTC/USDT", "ETH/USDT")
STREAMS = "/".join(
    f"{name}@{kind}" for name in ("btcusdt", "ethusdt") for kind in ("trade", "depth@100ms", "kline_1m")
)


class Steps:
    """Real time that jumps ahead whenever somebody waits for it."""

    def __init__(self, now: int) -> None:
        self.began = now
        self.passed = 0.0

    def now(self) -> int:
        return self.began + int(self.passed * MICROSECONDS)

    def elapsed(self) -> float:
        return self.passed

    async def sleep(self, seconds: float) -> None:
        self.passed += seconds
        await asyncio.sleep(0)

    async def past(self, now: int) -> None:
        """Wait until others have waited so long."""
        while self.now() < now:
            await asyncio.sleep(0)


@asynccontextmanager
async def subscribed(
    simulator: Simulator, target: str = f"/stream?streams={STREAMS}", **options: Any
) -> AsyncIterator[ClientConnection]:
    # What is still on its way when a test has seen enough need not be waited for.
    url = simulator.address.ws_url + target
    async with connect(url, compression=None, close_timeout=0.1, **options) as websocket:
        yield websocket


async def take_until(websocket: ClientConnection, time: int) -> list[dict[str, Any]]:
    """The payloads up to simulated `time` (microseconds); the first later one is lost."""
    found = []
    async for message in websocket:
        payload = json.loads(message)
        payload = payload.get("data", payload)
        if payload.get("E", 0) * 1000 >= time:
            return found
        if "e" in payload:
            found.append(payload)
    raise AssertionError("the connection ended early")


def trades_between(symbol: str, begin: int, end: int, seed: int = 7) -> list[int]:
    """Ids of the trades with begin <= time < end (microseconds)."""
    market = SimulatedMarket(seed, symbol)
    ids = []
    for hour in range(begin // 3_600_000_000, (end - 1) // 3_600_000_000 + 1):
        trades = market.trades(hour)
        inside = (trades.time * 1000 >= begin) & (trades.time * 1000 < end)
        ids += [trades.first_id + ordinal for ordinal in inside.nonzero()[0].tolist()]
    return ids


def truth_of(path: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in path.read_text().splitlines()]
