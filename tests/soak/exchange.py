"""A failing exchange, for a run of its own process: `python -m tests.soak.exchange '{"symbols": …}'`.

Prints its address, ends its market when its input says so, and itself when its input ends. Unlike
`deltatape simulate` it need not know beforehand when its market ends: that is when everybody is there again.
"""

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

from msgspec import structs

from collector.simulator.faults import Fault, Kind, possible, schedule
from collector.simulator.server import serve
from market import MICROSECONDS

_OF_MESSAGES: frozenset[Kind] = frozenset(
    ("duplicate", "reorder", "lost_trade", "lost_delta", "sequence_break", "malformed", "absurd")
)


def brief(fault: Fault, seconds: float | None) -> Fault:
    """The same fault, for so long at most if it befalls single messages, each of which may leave a hole."""
    if seconds is None or fault.kind not in _OF_MESSAGES:
        return fault
    return structs.replace(fault, end=min(fault.end, fault.begin + int(seconds * MICROSECONDS)))


async def exchange(plan: dict[str, Any]) -> None:
    protocol = plan.get("protocol", "binance")
    faults = schedule(
        plan["seed"],
        plan["start"],
        plan["faults_until"],
        plan["symbols"],
        every=plan["every"] * MICROSECONDS,
        kinds=[kind for kind in possible(protocol) if kind not in plan.get("without", ())],
    )
    async with serve(
        plan["symbols"],
        plan["seed"],
        protocol=protocol,
        speed=plan["speed"],
        start=plan["start"],
        truth=Path(plan["truth"]),
        faults=[brief(fault, plan.get("brief")) for fault in faults],
        fault_log=Path(plan["fault_log"]),
    ) as simulator:
        sys.stdout.write(f"{simulator.address.ws_url}\n")
        sys.stdout.flush()
        while await asyncio.to_thread(sys.stdin.readline):
            simulator.end_market()


if __name__ == "__main__":
    asyncio.run(exchange(json.loads(sys.argv[1])))
