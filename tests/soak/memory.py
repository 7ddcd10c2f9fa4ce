"""Memory stays flat, however many messages come: `python -m tests.soak.memory [--messages 10000000]`.

Simulated messages are sent as fast as one collector takes them; its memory is looked at all along.
"""

import argparse
import asyncio
import ctypes
import gc
import multiprocessing
import resource
import sys
import tempfile
from pathlib import Path
from statistics import median

from benchmarks.flood import SYMBOLS, serve_stream
from collector.collect import Target, open_collector
from tests.soak.parts import private_server

MESSAGES_AN_HOUR = 17_000
"""At least so many come of a simulated hour."""
LOOKS = 40
ROOM_MB = 12
"""By how much the last third may lie above the one before it, once caches and pools are as large as they
become: of ten million messages, a leak of 4 bytes each takes more."""
_LIBC = ctypes.CDLL(None)


def resident() -> float:
    """This process's memory in MB, without what the allocator merely keeps after a burst."""
    gc.collect()
    _LIBC.malloc_trim(0)
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 1024**2


async def collect(url: str, ws_url: str, rest_url: str, messages: int) -> list[float]:
    """The memory while so many messages are collected, looked at LOOKS times."""
    target = Target(exchange="simulated", symbols=SYMBOLS, ws_url=ws_url, rest_url=rest_url)
    found: list[float] = []
    with tempfile.TemporaryDirectory() as spool:
        collector = await open_collector(target, url, Path(spool))
        running = asyncio.create_task(collector.run())
        while len(found) < LOOKS:
            await asyncio.sleep(0.1)
            if running.done():
                running.result()
            if collector.counts.messages >= messages * (len(found) + 1) / LOOKS:
                found.append(resident())
                sys.stdout.write(f"{collector.counts.messages:>12,} messages  {found[-1]:7.1f} MB\n")
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await collector.close()
    return found


def main() -> int:
    """Whether memory is flat: 0 if it is."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=10_000_000)
    messages = parser.parse_args().messages
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe()
    sender = spawn.Process(target=serve_stream, args=(theirs, messages / MESSAGES_AN_HOUR))
    sender.start()
    try:
        _, port, rest_port = ours.recv()
        with private_server() as server:
            addresses = (f"ws://127.0.0.1:{port}", f"http://127.0.0.1:{rest_port}")
            found = asyncio.run(collect(server.database("memory"), *addresses, messages))
    finally:
        sender.terminate()
        sender.join()
    third = len(found) // 3
    growth = median(found[-third:]) - median(found[-2 * third : -third])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    sys.stdout.write(f"from the second third to the last: {growth:+.1f} MB; peak {peak:.0f} MB\n")
    return 0 if growth < ROOM_MB else 1


if __name__ == "__main__":
    sys.exit(main())
