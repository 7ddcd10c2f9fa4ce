"""One seed: a simulator that fails, a collector that is killed, a database that goes away; nothing is lost.

    python -m tests.soak.faults --seed 17             one seed
    python -m tests.soak.faults --seeds 200           1…200, two at a time

The seed decides all: the simulated market, its faults, and when which of our own processes is killed, stopped
or frozen. What the machine makes of it (how far a process had come when it was killed) differs from run to
run, so a rare failure may need several runs of its seed.
"""

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from random import Random
from typing import NamedTuple

from market import DAY, MICROSECONDS, parse_time
from storage.check import check
from storage.database import connect
from tests.soak.parts import ROOT, Collector, Server, Simulator, eventually, private_server, rows, run
from tests.soak.proof import Evidence, complaints, truth_by_symbol

SYMBOLS = ("BTC/USDT", "ETH/USDT", "SOL/USDT")
SPEED = 40
SECONDS = 15
"""Real seconds of a market at SPEED."""
EVERY = 60
"""Simulated seconds from one fault of the exchange to the next."""
SLACK = 5 * SPEED * MICROSECONDS
DRAIN = 60.0
"""Seconds to catch up and heal in, once the market has stopped."""
_DAYS = parse_time("2026-03-01")


class Blow(NamedTuple):
    """Something that befalls our side, so many seconds after what comes before it."""

    after: float
    what: str  # kill; fast, immediate, killed, frozen: the database
    seconds: float  # how long it is away
    is_early: bool = False  # it does not wait until the collector is connected


def blows(seed: int) -> list[Blow]:
    """Two or three kill -9 of the collector, one perhaps while it starts, and mostly one of the database."""
    random = Random(f"our side {seed}")
    found = [Blow(random.uniform(0.2, 3.0), "kill", random.uniform(0, 1)) for _ in range(2)]
    if random.random() < 0.4:
        found.append(Blow(random.uniform(0.2, 2.0), "kill", 0.0, is_early=True))
    if random.random() < 0.75:
        what = random.choice(("fast", "immediate", "killed", "frozen"))
        is_early = random.random() < 0.3
        found.append(Blow(random.uniform(0.1, 1.5), what, random.uniform(0.1, 2.0), is_early))
    random.shuffle(found)
    return found


def begin_of(seed: int) -> int:
    """Some minutes before a full hour, for every third seed midnight."""
    random = Random(f"begin {seed}")
    hour = 24 if seed % 3 == 0 else random.randrange(1, 24)
    before = random.uniform(0.2, 0.8) * SECONDS * SPEED
    return _DAYS + random.randrange(28) * DAY + int((hour * 3600 - before) * MICROSECONDS) // 1000 * 1000


class Outcome(NamedTuple):
    """How a seed went: what it put in the way, and everything that did not hold."""

    summary: str
    complaints: list[str]


def run_seed(seed: int, server: Server, folder: Path, without: Sequence[str] = ()) -> Outcome:
    """Run one seed, without some kinds of faults; the processes' logs are left in `folder`."""
    url = server.database(f"soak_{seed}")
    start = begin_of(seed)
    end = start + SECONDS * SPEED * MICROSECONDS
    simulator = Simulator(
        folder,
        symbols=SYMBOLS,
        seed=seed,
        speed=SPEED,
        start=start,
        faults_until=end,
        every=EVERY,
        without=without,
    )
    collector = Collector(folder, url, simulator, ",".join(SYMBOLS))
    try:
        collector.start()
        count = "SELECT count(DISTINCT symbol) FROM trades"
        eventually(lambda: rows(url, count) == [(len(SYMBOLS),)], 60, "the first trades are stored")
        kills = _strike(seed, server, url, simulator, collector)
        eventually(lambda: simulator.is_heard(SYMBOLS, end), 90, "everybody is there again")
        simulator.end_market()
        evidence = Evidence(seed, {}, [], kills, SLACK)
        found = _settle(url, simulator, collector, evidence)
        found += _verdict(folder, url)
        _leave(folder, url)
        return Outcome(_summary(seed, url, simulator), found)
    finally:
        if collector.is_running:
            collector.kill()
        simulator.stop()
        (folder / "collector.log").write_text(collector.log)


def _strike(
    seed: int, server: Server, url: str, simulator: Simulator, collector: Collector
) -> list[tuple[set[int], set[tuple[str, str]]]]:
    """Everything that befalls our side; at each kill, what was connected and what was stored."""
    kills = []
    for blow in blows(seed):
        if not blow.is_early:
            eventually(lambda: _is_connected(simulator), 60, "the collector is connected")
        time.sleep(blow.after)
        if blow.what != "kill":
            server.suffer(blow.what, blow.seconds)
            continue
        collector.kill()
        lines = simulator.log()
        opened = {line["connection"] for line in lines if line["event"] == "opened"}
        stored = {(row[0], row[1]) for row in rows(url, "SELECT symbol, trade_id FROM trades")}
        kills.append((opened - {line["connection"] for line in lines if line["event"] == "closed"}, stored))
        time.sleep(blow.seconds)
        collector.start()
    return kills


def _is_connected(simulator: Simulator) -> bool:
    lines = simulator.log()
    opened = {line["connection"] for line in lines if line["event"] == "opened"}
    return bool(opened - {line["connection"] for line in lines if line["event"] in ("closed", "cut")})


def _settle(url: str, simulator: Simulator, collector: Collector, evidence: Evidence) -> list[str]:
    """Wait until nothing is to be complained of, then stop the collector and look again."""
    found: list[str] = ["never looked"]

    def is_whole() -> bool:
        found[:] = _look(url, simulator, evidence)
        return not found

    with suppress(TimeoutError):
        eventually(is_whole, DRAIN, "the tape is whole")
    code = collector.stop()
    after = [] if code == 0 else [f"collect: exit code {code} on SIGTERM"]
    return after + _look(url, simulator, evidence)


def _look(url: str, simulator: Simulator, evidence: Evidence) -> list[str]:
    truth = truth_by_symbol(simulator.truth())
    return list(complaints(url, evidence._replace(truth=truth, log=simulator.log())))


def _leave(folder: Path, url: str) -> None:
    """The ledger as it stands, for whoever looks for the reason."""
    for table, order in (
        ("stream_gaps", "id"),
        ("stream_coverage", "symbol, from_timestamp"),
        ("tape_revisions", "id"),
    ):
        found = rows(url, f"SELECT row_to_json(t)::text FROM {table} AS t ORDER BY {order}")
        (folder / f"{table}.jsonl").write_text("".join(f"{row[0]}\n" for row in found))


def _summary(seed: int, url: str, simulator: Simulator) -> str:
    log = simulator.log()
    sent = {(line["symbol"], each) for line in log if line["event"] == "sent" for each in line["trade_ids"]}
    truth = simulator.truth()
    holes = rows(url, "SELECT count(*) FROM stream_gaps WHERE stream = 'trades'")[0][0]
    faults = ", ".join(line["kind"] for line in log if line["event"] == "fault")
    ours = ", ".join(blow.what for blow in blows(seed))
    return f"{len(truth)} trades, {len(truth) - len(sent)} never sent, {holes} holes; {faults}; ours: {ours}"


def _verdict(folder: Path, url: str) -> list[str]:
    """What `deltatape verify` and the rules of `deltatape db check` say."""
    done = run(folder, url, "verify")
    (folder / "verify.log").write_text(done.stdout + done.stderr)
    found = [] if done.returncode == 0 else [f"verify: exit code {done.returncode}, see verify.log"]
    with connect(url) as connection:
        broken = check(connection, full=True).broken
    return found + [f"db check: {one.rule}: {one.count} ({', '.join(one.examples)})" for one in broken]


def run_alone(seed: int, keep: Path | None, without: Sequence[str] = ()) -> Outcome:
    """`run_seed` on a server of its own, with its logs in `keep` where something did not hold."""
    folder = Path(tempfile.mkdtemp(prefix=f"deltatape-seed-{seed}-"))
    with ExitStack() as stack:
        server = stack.enter_context(private_server())
        found = run_seed(seed, server, folder, without)
    if found.complaints and keep is not None:
        target = keep / f"seed-{seed}"
        shutil.rmtree(target, ignore_errors=True)
        shutil.move(folder, target)
    else:
        shutil.rmtree(folder)
    return found


def _alone(seed: int, keep: Path, without: Sequence[str]) -> tuple[int, Outcome]:
    try:
        return seed, run_alone(seed, keep, without)
    except (AssertionError, OSError, TimeoutError, RuntimeError) as error:
        return seed, Outcome("did not end", [f"{type(error).__name__}: {error}"])


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    chosen = parser.add_mutually_exclusive_group(required=True)
    chosen.add_argument("--seed", type=int, action="append", help="one seed; may be repeated")
    chosen.add_argument("--seeds", type=int, help="so many seeds, from --first on")
    parser.add_argument("--first", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=2, help="seeds at a time")
    parser.add_argument(
        "--keep", type=Path, default=ROOT / ".cache" / "soak", help="logs of the seeds that failed"
    )
    parser.add_argument("--without", action="append", default=[], help="a kind of fault to leave out")
    given = parser.parse_args(arguments)
    seeds = given.seed or range(given.first, given.first + given.seeds)
    given.keep.mkdir(parents=True, exist_ok=True)
    failed = []
    with ProcessPoolExecutor(given.jobs) as pool:
        for seed, outcome in pool.map(
            partial(_alone, keep=given.keep.absolute(), without=given.without), seeds
        ):
            _say(f"seed {seed} {'fails' if outcome.complaints else 'holds'}: {outcome.summary}")
            for text in outcome.complaints:
                _say(f"    {text}")
            if outcome.complaints:
                failed.append(seed)
    _say(f"{len(seeds) - len(failed)} of {len(seeds)} seeds hold")
    for seed in failed:
        _say(f"again: python -m tests.soak.faults --seed {seed}   (logs in {given.keep}/seed-{seed})")
    return 1 if failed else 0


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
