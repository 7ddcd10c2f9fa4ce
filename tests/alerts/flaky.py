"""A chat that fails half of the calls at random, and a dispatcher that is killed while it sends there."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from random import Random

from alerts.channels.telegram import TelegramChannel
from alerts.dispatcher import Outlet
from alerts.plan import Policy
from alerts.run import run
from storage.database import Connection, connect
from storage.outbox import AlertType, Event, alert_rows, write_alerts
from tests.alerts.bot_api import TOKEN, BotApi
from tests.alerts.bot_calls import ANSWER_LOST, MALFORMED, NOT_TAKEN, Call, Fault, broken, refused

ROOT = Path(__file__).parent.parent.parent
CHANNEL = "phone"
CHAT = 77
LEASE = 3_000_000
POLICY = Policy(first_delay=10_000, longest_delay=50_000, attempts=1_000)
FAULTS: tuple[Fault, ...] = (
    refused(500, "Internal Server Error"),
    broken(),
    NOT_TAKEN,
    ANSWER_LOST,
    MALFORMED,
    Fault(429, "Too Many Requests: retry after 0", None),
)


class Flaky:
    """Half of the calls go wrong, in every way that there is; with a seed."""

    def __init__(self, seed: int) -> None:
        self._random = Random(seed)
        self._lock = threading.Lock()

    def __call__(self, call: Call) -> Fault | None:
        with self._lock:
            return self._random.choice(FAULTS) if self._random.random() < 0.5 else None


def write(connection: Connection, count: int) -> None:
    """So many alerts into the outbox, in one transaction."""
    with connection.transaction():
        for number in range(count):
            event = Event(
                alert_type=AlertType.TEST,
                timestamp=1_800_000_000_000_000 + number,
                title=f"alert #{number:05}",
                message="to be delivered",
                dedupe_key=f"flaky:{number}",
            )
            write_alerts(connection, alert_rows(event, [CHANNEL]))


def start(url: str, api_url: str) -> subprocess.Popen[bytes]:
    """A dispatcher in a process of its own, which sends until it is killed or nothing waits any more."""
    given = json.dumps([url, api_url])
    return subprocess.Popen([sys.executable, "-m", "tests.alerts.flaky", given], cwd=ROOT)


def deliver(url: str, api: BotApi, count: int, kills: int, seed: int, patience: float) -> None:
    """Let dispatchers send `count` alerts, and kill `kills` of them somewhere on the way."""
    marks = sorted(Random(seed).sample(range(1, count), kills))
    process = start(url, api.address)
    until = time.monotonic() + patience
    try:
        for mark in marks:
            api.wait(lambda mark=mark: len(api.messages) >= mark, until - time.monotonic())
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
            process = start(url, api.address)
        assert process.wait(until - time.monotonic()) == 0
    finally:
        process.kill()
        process.wait()


def complaints(connection: Connection, api: BotApi, count: int) -> list[str]:
    """What did not hold: all delivered, none lost, in order; twice only where it was marked so."""
    found: list[str] = []
    statuses = connection.execute("SELECT status, count(*) FROM alerts GROUP BY status").fetchall()
    if statuses != [("sent", count)]:
        found.append(f"statuses {statuses}")
    marked = {
        title
        for (title,) in connection.execute("SELECT title FROM alerts WHERE is_possible_duplicate").fetchall()
    }
    messages = sorted(api.messages.values(), key=lambda each: each.id)
    titles = [message.plain.splitlines()[0] for message in messages]
    times = Counter(titles)
    found += [
        f"{title!r} never arrived" for number in range(count) if (title := f"alert #{number:05}") not in times
    ]
    found += [
        f"{title!r} came {n} times, unmarked" for title, n in times.items() if n > 1 and title not in marked
    ]
    first_seen = list(dict.fromkeys(titles))
    if first_seen != sorted(first_seen):
        found.append("the order was not kept")
    # All but the first of one alert say that they may be others of the same.
    seen: set[str] = set()
    for title, message in zip(titles, messages, strict=True):
        if title in seen and "perhaps sent before" not in message.plain:
            found.append(f"{title!r} came again without saying so")
        seen.add(title)
    return found


def main(url: str, api_url: str) -> int:
    """Send until nothing waits."""
    stop = threading.Event()
    outlet = Outlet(TelegramChannel(TOKEN, CHAT, api_url), policy=POLICY, lease=LEASE)

    def watch() -> None:
        with connect(url, autocommit=True) as connection:
            left = "SELECT id FROM alerts WHERE status IN ('pending', 'failed') LIMIT 1"
            while connection.execute(left).fetchone():
                time.sleep(0.2)
        stop.set()

    threading.Thread(target=watch, daemon=True).start()
    run(url, {CHANNEL: outlet}, lambda: time.time_ns() // 1000, stop)
    return 0


if __name__ == "__main__":
    sys.exit(main(*json.loads(sys.argv[1])))
