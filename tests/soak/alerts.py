"""Ten thousand alerts through a chat that fails half of its calls, with the dispatcher killed twenty times.

    python -m tests.soak.alerts [--alerts 10000] [--kills 20] [--seed 1]

Every alert arrives, in order; twice only where the call's answer was lost, and then it says so.
"""

import argparse
import sys
import time

from benchmarks.databases import fresh_database
from storage.database import connect
from tests.alerts.bot_api import bot_api
from tests.alerts.flaky import Flaky, complaints, deliver, write

PATIENCE = 3600.0


def main() -> int:
    """Whether it holds: 0 if it does."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--alerts", type=int, default=10_000)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    with fresh_database() as url, bot_api() as api, connect(url, autocommit=True) as connection:
        api.misbehave = Flaky(given.seed)
        write(connection, given.alerts)
        began = time.monotonic()
        deliver(url, api, given.alerts, given.kills, given.seed, PATIENCE)
        found = complaints(connection, api, given.alerts)
        calls, messages = len(api.calls), len(api.messages)
        failed = sum(call.fault is not None for call in api.calls)
        sys.stdout.write(
            f"{given.alerts:,} alerts, {calls:,} calls of which {failed:,} failed, {given.kills} kills:"
            f" {messages:,} messages, {messages - given.alerts:,} of them again and marked so,"
            f" in {time.monotonic() - began:.0f} s\n"
        )
        for complaint in found[:20]:
            sys.stdout.write(f"  {complaint}\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
