"""The whole job offline: a simulated exchange, collected live, into signals, alerts and a sweep.

The simulator runs in a process of its own, as an exchange would; everything else is the daemon that
`deltatape up` runs. The simulated market is a function of seed, symbol and time, so a later run goes on
with the same tape, ids and time.
"""

from __future__ import annotations

import asyncio
import re
import sys
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from collector.collect import Target
from deltatape.settings import SweepOptions
from market import MICROSECONDS, DeltatapeError, Unavailable, format_time
from storage import database, overview
from storage.clock import wall_clock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from signals.options import SignalOptions

EXCHANGE = "simulated"
SYMBOLS = ("BTC/USDT", "ETH/USDT")
SEED = 7
HOUR = 3600 * MICROSECONDS
LONGEST_PAUSE = 24 * HOUR
"""A tape that ended longer ago is not caught up: what lies between becomes a recorded hole."""
FAST = 1e6
"""Simulated seconds a second until now is reached: as fast as the collector takes it."""
CAUGHT_UP = 5 * MICROSECONDS
START_SECONDS = 30.0
SWEEP = SweepOptions(
    exchange=EXCHANGE,
    symbol=SYMBOLS[0],
    timeframe="1m",
    strategy="ema_cross",
    grid={"fast": "3:15:3", "slow": "20:60:10"},
    rank_by="total_return_pct",
)
_ADDRESS = re.compile(r"ws://\S+")


@dataclass(frozen=True, slots=True)
class Simulator:
    """A running simulator's address, and from when its time runs."""

    ws_url: str
    rest_url: str
    start: int

    @property
    def target(self) -> Target:
        """What to collect from it."""
        return Target(exchange=EXCHANGE, symbols=SYMBOLS, ws_url=self.ws_url, rest_url=self.rest_url)


def start_time(url: str, hours: float) -> int:
    """From when the simulation goes on: the end of the stored tape, else so many hours back."""
    now = wall_clock()
    with database.connect(url) as connection:
        database.require_schema(connection)
        ends = [overview.last_trade_timestamp(connection, EXCHANGE, symbol) for symbol in SYMBOLS]
    known = [end for end in ends if end is not None]
    if len(known) < len(SYMBOLS) or min(known) < now - LONGEST_PAUSE:
        return now - int(hours * HOUR)
    return min(known)


def follow_signals(url: str, options: SignalOptions) -> None:
    """Bring the signals up to what is stored, however far the daemon has come with them."""
    from signals.run import Follower
    from signals.target import Selection

    with (
        database.connect(url, autocommit=True) as connection,
        closing(Follower(connection, options, Selection())) as follower,
    ):
        follower.look()
        for _ in follower.advance():
            pass


@asynccontextmanager
async def simulator(start: int) -> AsyncIterator[Simulator]:
    """Run the simulator in a process of its own, on any free port of this machine.

    Raises:
        Unavailable: it does not start.
    """
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "deltatape", "simulate", "--symbols", ",".join(SYMBOLS)),
        *("--seed", str(SEED), "--port", "0", "--speed", f"{FAST:g}", "--start", format_time(start)),
        stdout=asyncio.subprocess.PIPE,
        # Ctrl-C in the terminal is ours to pass on, in order.
        start_new_session=True,
    )
    try:
        if process.stdout is None:
            raise DeltatapeError("the simulator has no output")
        async with asyncio.timeout(START_SECONDS):
            line = (await process.stdout.readline()).decode()
        found = _ADDRESS.search(line)
        if found is None:
            raise Unavailable(f"the simulator does not start: {line.strip() or 'it said nothing'}")
        address = found.group()
        yield Simulator(address, address.replace("ws://", "http://", 1), start)
    except TimeoutError:
        raise Unavailable(f"the simulator does not start within {START_SECONDS:.0f} s") from None
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()
