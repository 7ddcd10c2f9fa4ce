"""The database server is killed with SIGKILL over and over while it is written: nothing acknowledged is lost.

    python -m tests.soak.kills --rounds 50            fifty kills, from seed 1
    python -m tests.soak.kills --seed 7 --rounds 5    others

Two write: a real collector, from a simulated exchange whose every trade is known; and a writer that notes
what each commit has acknowledged. The collector writes as the role that has no more rights than it needs.
The server keeps its promises to the disk (fsync), and all of its processes are killed at once.
"""

import argparse
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from random import Random

import psycopg

import migrations
from market import MICROSECONDS, Instrument, Side, Trade, Unavailable, parse_time
from storage import roles, server
from storage.amend import amend
from storage.check import check
from storage.coverage import Span
from storage.database import connect
from storage.instruments import write_instruments
from tests.soak.faults import Outcome
from tests.soak.parts import TESTS_HOME, Collector, Simulator, eventually, rows, run
from tests.soak.proof import Evidence, complaints, truth_by_symbol

SYMBOLS = ("BTC/USDT",)
SPEED = 10
BATCH = 40
"""Trades that the noting writer commits at a time."""
EXCHANGE, SYMBOL = "simulated", "ACK/USDT"
INSTRUMENT = Instrument(
    exchange=EXCHANGE,
    symbol=SYMBOL,
    exchange_symbol="ACKUSDT",
    base="ACK",
    quote="USDT",
    trade_ids_consecutive=True,
)
START = parse_time("2026-03-01T12:00:00Z")
DRAIN = 60.0
"""Seconds to catch up in, once the market has stopped."""


@contextmanager
def durable_server() -> Iterator[Path]:
    """The home of a private server of its own that syncs what it commits."""
    home = Path(tempfile.mkdtemp(prefix="deltatape-kills-", dir="/tmp"))
    home.chmod(0o755)
    unpacked = server.reachable_home(TESTS_HOME) / "server"
    if unpacked.exists():
        (home / "server").symlink_to(unpacked)
    try:
        server.start(home, report=lambda line: None)
        yield home
    finally:
        with suppress(Unavailable):
            server.stop(home)
        shutil.rmtree(home, ignore_errors=True)


class Noting(threading.Thread):
    """Commits batches of trades one after another, and notes how many are acknowledged."""

    def __init__(self, url: str, seed: int) -> None:
        super().__init__(daemon=True)
        self.acknowledged = 0
        self.commits = 0
        self._url, self._random = url, Random(seed)
        self._ended = threading.Event()

    def run(self) -> None:
        while not self._ended.is_set():
            try:
                with connect(self._url) as connection:
                    self._write(connection)
            except (psycopg.OperationalError, Unavailable):
                time.sleep(0.05)

    def _write(self, connection: psycopg.Connection) -> None:
        while not self._ended.is_set():
            # What was not acknowledged is written again, the same.
            last = self.acknowledged + BATCH
            trades = [self._trade(number) for number in range(self.acknowledged + 1, last + 1)]
            ids = str(trades[0].trade_seq), str(last)
            begin = trades[0].timestamp
            span = Span(begin, begin + 10 * MICROSECONDS, *ids, "ids", "import", BATCH)
            amend(connection, EXCHANGE, SYMBOL, trades, None, [span], "import")
            connection.commit()
            self.acknowledged, self.commits = last, self.commits + 1
            time.sleep(0.02)  # for the others on this machine

    def _trade(self, number: int) -> Trade:
        random = Random(number)
        batch, place = divmod(number - 1, BATCH)
        at = START + (batch * BATCH + place) * 10 * MICROSECONDS // BATCH
        price, size = random.randrange(90, 110) / 2, random.randrange(1, 1000) / 1000
        return Trade(SYMBOL, at, str(number), number, price, size, random.choice((Side.BUY, Side.SELL)))

    def end(self) -> None:
        self._ended.set()
        self.join(30)


def kill(home: Path) -> None:
    """SIGKILL all of the server's processes at once."""
    number = server.status(home).pid
    assert number is not None
    children = Path(f"/proc/{number}/task/{number}/children").read_text().split()
    for each in (number, *map(int, children)):
        with suppress(ProcessLookupError):
            os.kill(each, signal.SIGKILL)


def run_rounds(seed: int, rounds: int, folder: Path) -> Outcome:
    """Kill the server `rounds` times; what did not hold is in the outcome, the logs in `folder`."""
    random = Random(seed)
    with durable_server() as home:
        owner = server.url(home)
        migrations.upgrade(owner)
        with connect(server.superuser_url(home)) as admin:
            writer = next(role.name for role in roles.make_roles(admin, {}) if role.kind == "writer")
        url = owner.replace("//deltatape@", f"//{writer}@")
        with connect(url) as connection:
            write_instruments(connection, [INSTRUMENT])
        simulator = Simulator(
            folder, symbols=SYMBOLS, seed=seed, speed=SPEED, start=START, faults_until=0, every=60
        )
        collector = Collector(folder, url, simulator, ",".join(SYMBOLS))
        noting = Noting(url, seed)
        try:
            collector.start()
            noting.start()
            found = _strike(random, rounds, home, owner, noting)
            found += _end(folder, owner, simulator, collector, noting, seed)
        finally:
            noting.end()
            if collector.is_running:
                collector.kill()
            simulator.stop()
            (folder / "collector.log").write_text(collector.log)
        trades = rows(owner, "SELECT count(*) FROM trades")[0][0]
    return Outcome(f"{rounds} kills, {noting.commits} commits acknowledged, {trades} trades", found)


def _strike(random: Random, rounds: int, home: Path, url: str, noting: Noting) -> list[str]:
    """Kill and start again; after each, what is missing and what does not fit together."""
    found: list[str] = []
    everything = "SELECT count(DISTINCT symbol) FROM trades"
    eventually(lambda: rows(url, everything) == [(len(SYMBOLS) + 1,)], 60, "the first trades are stored")
    seen = 0
    for number in range(1, rounds + 1):
        commits = noting.commits
        eventually(lambda: noting.commits > commits, 60, "the server is written")  # noqa: B023
        # The collector tries again each 5 s; some kills come before it is back.
        if random.random() < 0.7:
            eventually(lambda: _collected(url) > seen, 60, "the collector writes")  # noqa: B023
        time.sleep(random.choice((0.0, random.uniform(0, 0.3), random.uniform(0, 2))))
        before = _collected(url)
        kill(home)
        acknowledged = noting.acknowledged
        server.start(home, report=lambda line: None)
        found += [f"kill {number}: {text}" for text in _look(url, acknowledged)]
        seen = _collected(url)
        if seen < before:
            found.append(f"kill {number}: {before} trades of the collector were there, now {seen}")
    return found


def _collected(url: str) -> int:
    count: int = rows(url, "SELECT count(*) FROM trades WHERE symbol <> %s", [SYMBOL])[0][0]
    return count


def _look(url: str, acknowledged: int) -> Iterator[str]:
    """What is missing of what was acknowledged, and every rule that does not hold."""
    query = "SELECT count(*) FILTER (WHERE trade_seq <= %s), count(*) % %s FROM trades WHERE symbol = %s"
    stored, rest = rows(url, query.replace("% %s", "%% %s"), [acknowledged, BATCH, SYMBOL])[0]
    if stored != acknowledged:
        yield f"{acknowledged - stored} of {acknowledged} acknowledged trades are lost"
    if rest:
        yield f"{rest} trades of a batch without the others"
    with connect(url) as connection:
        for one in check(connection, full=True).broken:
            yield f"db check: {one.rule}: {one.count} ({', '.join(one.examples)})"


def _end(
    folder: Path, url: str, simulator: Simulator, collector: Collector, noting: Noting, seed: int
) -> list[str]:
    """Stop everything in order; the tape must be the exchange's truth then."""
    noting.end()
    simulator.end_market()
    found: list[str] = []

    def is_whole() -> bool:
        time.sleep(0.5)
        truth = truth_by_symbol(simulator.truth())
        evidence = Evidence(seed, truth, simulator.log(), [], 5 * SPEED * MICROSECONDS)
        # Of what the noting writer wrote the exchange knows nothing.
        found[:] = [text for text in complaints(url, evidence) if SYMBOL not in text]
        return not found

    with suppress(TimeoutError):
        eventually(is_whole, DRAIN, "the tape is whole")
    if code := collector.stop():
        found.append(f"collect: exit code {code} on SIGTERM")
    found += _look(url, noting.acknowledged)
    done = run(folder, url, "verify")
    if done.returncode:
        (folder / "verify.log").write_text(done.stdout + done.stderr)
        found.append(f"verify: exit code {done.returncode}, see verify.log")
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=50)
    given = parser.parse_args(arguments)
    folder = Path(tempfile.mkdtemp(prefix="deltatape-kills-logs-"))
    outcome = run_rounds(given.seed, given.rounds, folder)
    sys.stdout.write(f"{outcome.summary}: {'fails' if outcome.complaints else 'holds'}\n")
    for text in outcome.complaints:
        sys.stdout.write(f"    {text}\n")
    if outcome.complaints:
        again = f"python -m tests.soak.kills --seed {given.seed} --rounds {given.rounds}"
        sys.stdout.write(f"again: {again}   (logs in {folder})\n")
        return 1
    shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
