"""A simulated day of one exchange in minutes, through a real collector: `python -m tests.soak.virtual`.

The simulator's clock runs at --speed, its faults befall the real websockets and REST, and the collector
replaces its connections as it does before an exchange's 24-hour cut. The day begins at noon, so that it
changes in the middle. In the end the tables must be the ground truth.
"""

import argparse
import asyncio
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from collector.collect import Collector, Target, open_collector
from market import MICROSECONDS, format_time, parse_time
from tests.soak.parts import ROOT, Simulator, private_server, rows, run
from tests.soak.proof import Evidence, complaints, truth_by_symbol

SYMBOLS = ("BTC/USDT", "ETH/USDT")
HOUR = 3600 * MICROSECONDS
NOON = parse_time("2026-03-01T12:00:00Z")
MOST_SECONDS = 300.0
"""What a day may take, all told."""
BRIEF = 10.0
"""Simulated seconds that a fault lasts at most which befalls single messages."""
DRAIN = 60.0
"""Seconds to catch up and heal in, once the market has stopped."""


class Plan(NamedTuple):
    """What is simulated.

    Attributes:
        seed: of the market and its faults.
        start: microseconds UTC.
        hours: how long the market runs.
        speed: simulated seconds a second.
        every: simulated seconds from one fault to the next.
        renew_every: simulated seconds from one planned renewal of the connections to the next.
    """

    seed: int = 5
    start: int = NOON
    hours: float = 24
    speed: float = 600
    every: float = 3000
    renew_every: float = 3 * 3600

    @property
    def end(self) -> int:
        return self.start + int(self.hours * HOUR)


class Outcome(NamedTuple):
    """What came, and everything that did not hold."""

    summary: str
    complaints: list[str]


def run_plan(plan: Plan, url: str, folder: Path, *, is_quiet: bool = True) -> Outcome:
    """Let the simulated time pass, then compare the database with what happened in it."""
    began = time.monotonic()
    simulator = Simulator(
        folder,
        symbols=SYMBOLS,
        seed=plan.seed,
        speed=plan.speed,
        start=plan.start,
        faults_until=plan.end,
        every=plan.every,
        brief=BRIEF,
    )
    try:
        summary = asyncio.run(_collect(plan, url, simulator, folder, is_quiet=is_quiet))
        collected = time.monotonic() - began
        truth = truth_by_symbol(simulator.truth())
        log, slack = simulator.log(), int(5 * plan.speed * MICROSECONDS)
        evidence = Evidence(plan.seed, truth, log, [], slack)
        found = list(complaints(url, evidence))
    finally:
        simulator.stop()
    verdict = run(folder, url, "verify")
    if verdict.returncode != 0:
        found.append(f"verify: exit code {verdict.returncode}: {verdict.stdout}{verdict.stderr}")
    trades = sum(map(len, truth.values()))
    faults = sum(line["event"] == "fault" for line in evidence.log)
    return Outcome(f"{trades:,} trades, {faults} faults, {summary}; {collected:.0f} s", found)


async def _collect(plan: Plan, url: str, simulator: Simulator, folder: Path, *, is_quiet: bool) -> str:
    target = Target(
        exchange="simulated", symbols=SYMBOLS, ws_url=simulator.ws_url, rest_url=simulator.rest_url
    )
    collector = await open_collector(target, url, folder / "spool")
    running = asyncio.create_task(collector.run())
    try:
        async with asyncio.timeout(MOST_SECONDS):
            renewals = await _pass(plan, simulator, collector, running, is_quiet=is_quiet)
        deadline = time.monotonic() + DRAIN
        while time.monotonic() < deadline and not await asyncio.to_thread(_is_whole, url, simulator):
            await asyncio.sleep(0.2)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await collector.close()
    opened = sum(connection.opened for connection in collector.feed.connections)
    holes = rows(url, "SELECT count(*) FROM stream_gaps WHERE stream = 'trades'")[0][0]
    return (
        f"{collector.counts.messages:,} messages, {opened} connections of which {renewals} were planned,"
        f" {holes} holes healed"
    )


async def _pass(
    plan: Plan, simulator: Simulator, collector: Collector, running: asyncio.Task[None], *, is_quiet: bool
) -> int:
    """Let the plan's time pass, renewing the connections now and then, and end the market; the renewals."""
    renewals, next_hour = 0, plan.start + HOUR
    next_renewal = plan.start + int(plan.renew_every * MICROSECONDS)
    now = plan.start
    while now < plan.end or not await asyncio.to_thread(simulator.is_heard, SYMBOLS, plan.end):
        await asyncio.sleep(0.1)
        if running.done():
            running.result()
        now = max((stream.last_trade_time or 0 for stream in collector.session.streams.values()), default=now)
        if next_renewal <= now < plan.end and collector.feed.is_open:
            next_renewal = now + int(plan.renew_every * MICROSECONDS)
            for connection in collector.feed.connections:
                connection.renew()
            renewals += 1
        if now >= next_hour:
            next_hour = now - now % HOUR + HOUR
            if not is_quiet:
                _say(f"{format_time(now - now % HOUR)}  {collector.counts.messages:>9,} messages")
    await asyncio.to_thread(simulator.end_market)
    return renewals


def _is_whole(url: str, simulator: Simulator) -> bool:
    """Whether the last trades are stored, and no hole is open: only then it is worth a closer look."""
    openings = "SELECT count(*) FROM stream_gaps WHERE stream = 'trades' AND status NOT IN ('healed', 'halt')"
    newest = "SELECT symbol, last(trade_id, (timestamp, trade_seq)) FROM trades GROUP BY symbol"
    last = {symbol: trades[-1].trade_id for symbol, trades in truth_by_symbol(simulator.truth()).items()}
    return rows(url, openings) == [(0,)] and dict(rows(url, newest)) == last


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seed", type=int, default=Plan().seed)
    parser.add_argument("--hours", type=float, default=Plan().hours)
    parser.add_argument("--speed", type=float, default=Plan().speed)
    given = parser.parse_args(arguments)
    plan = Plan(seed=given.seed, hours=given.hours, speed=given.speed)
    began = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="deltatape-virtual-"))
    with private_server() as server:
        outcome = run_plan(plan, server.database("virtual"), folder, is_quiet=False)
    seconds = time.monotonic() - began
    found = outcome.complaints
    if seconds > MOST_SECONDS:
        found.append(f"it took {seconds:.0f} s, more than {MOST_SECONDS:.0f} s")
    verdict = "fail" if found else "hold"
    _say(f"{plan.hours:g} simulated hours {verdict}: {outcome.summary}, {seconds:.0f} s in all")
    for text in found:
        _say(f"    {text}")
    if found:
        keep = ROOT / ".cache" / "soak" / f"virtual-{plan.seed}"
        shutil.rmtree(keep, ignore_errors=True)
        shutil.move(folder, keep)
        _say(f"again: python -m tests.soak.virtual --seed {plan.seed}   (logs in {keep})")
    else:
        shutil.rmtree(folder)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
