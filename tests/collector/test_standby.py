"""Two or three collectors of the same instruments: one writes; whatever befalls it, the next one goes on."""

import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import pytest

from market import MICROSECONDS, parse_time
from tests.soak.parts import Collector, Server, Simulator, eventually, private_server, rows
from tests.soak.proof import Evidence, complaints, truth_by_symbol

SYMBOLS = ("BTC/USDT", "ETH/USDT")
SPEED = 20
SEED = 7
START = parse_time("2026-03-01T12:00:00Z")
TAKE_OVER = 20.0
"""Seconds from a blow until the next collector is the one writer: four times what is promised of a machine
that does nothing else, since other tests run beside this one."""


class Group:
    """Collectors of one exchange, each as on a machine of its own, on one database."""

    def __init__(self, server: Server, folder: Path, names: Sequence[str]) -> None:
        self.server, self.folder = server, folder
        self.url = server.database("standby")
        self.simulator = Simulator(
            folder, symbols=SYMBOLS, seed=SEED, speed=SPEED, start=START, faults_until=0, every=60
        )
        self.collectors: dict[str, Collector] = {}
        self.kills: list[tuple[set[int], set[tuple[str, str]]]] = []
        for name in names:
            (folder / name).mkdir()
            symbols = ",".join(SYMBOLS)
            self.collectors[name] = Collector(folder / name, self.url, self.simulator, symbols)

    def close(self) -> None:
        for collector in self.collectors.values():
            if collector.is_running:
                os.kill(collector.pid, signal.SIGCONT)
                collector.kill()
        self.simulator.stop()

    @property
    def standing_by(self) -> set[str]:
        """Those whose last word is that they stand by."""
        last = {name: collector.log.splitlines()[-1] for name, collector in self.collectors.items()}
        return {name for name, line in last.items() if line.endswith("standing by")}

    def active(self) -> str:
        """The one of those that run that does not stand by."""
        running = {name for name, collector in self.collectors.items() if collector.is_running}
        (name,) = running - self.standing_by
        return name

    def newest(self) -> dict[str, tuple[int, int]]:
        """By symbol, whose turn it is, and the newest trade."""
        found = rows(
            self.url,
            "SELECT symbol, epoch, (SELECT max(trade_seq) FROM trades WHERE trades.symbol = s.symbol)"
            " FROM stream_state AS s WHERE stream = 'trades'",
        )
        return {symbol: (epoch, newest) for symbol, epoch, newest in found if newest is not None}

    def note(self) -> None:
        """What was connected and what was stored, at the moment of a blow."""
        log = self.simulator.log()
        opened = {line["connection"] for line in log if line["event"] == "opened"}
        closed = {line["connection"] for line in log if line["event"] == "closed"}
        stored = {(row[0], row[1]) for row in rows(self.url, "SELECT symbol, trade_id FROM trades")}
        self.kills.append((opened - closed, stored))

    def take_over(self, before: dict[str, tuple[int, int]], since: float) -> None:
        """Another collector became the one writer of all in time, and writes."""
        left = TAKE_OVER - (time.monotonic() - since)
        eventually(lambda: all(self.newest()[s][0] > before[s][0] for s in SYMBOLS), left, "it is taken over")
        sys.stdout.write(f"taken over after {time.monotonic() - since:.1f} s\n")
        self.go_on(before)

    def go_on(self, before: dict[str, tuple[int, int]]) -> None:
        """Trades of every symbol are written again."""
        eventually(lambda: all(self.newest()[s][1] > before[s][1] for s in SYMBOLS), 60, "trades are written")

    def complaints(self) -> list[str]:
        truth, slack = truth_by_symbol(self.simulator.truth()), 5 * SPEED * MICROSECONDS
        return list(complaints(self.url, Evidence(SEED, truth, self.simulator.log(), self.kills, slack)))


@pytest.fixture
def group(tmp_path: Path) -> Iterator[Group]:
    with private_server() as server:
        found = Group(server, tmp_path, ("one", "two", "three"))
        try:
            yield found
        finally:
            found.close()


def test_whatever_befalls_the_active_collector_the_next_one_takes_over(group: Group) -> None:
    for collector in group.collectors.values():
        collector.start()
    eventually(lambda: len(group.standing_by) == 2, 60, "two stand by")
    eventually(lambda: len(group.newest()) == len(SYMBOLS), 60, "trades of both are written")

    # The database is gone for a moment, for all of them; those that stand by wait for it.
    before = group.newest()
    group.note()
    group.server.suffer("fast", 0.3)
    group.go_on(before)
    eventually(lambda: len(group.standing_by) == 2, 60, "two stand by again")
    assert all(each.is_running for each in group.collectors.values())

    # Frozen: it holds its locks and its connections, and does nothing.
    frozen, before, since = group.active(), group.newest(), time.monotonic()
    os.kill(group.collectors[frozen].pid, signal.SIGSTOP)
    group.take_over(before, since)
    group.note()

    # Awake again, it has lost its turn: it says so, and stands by.
    awake = group.collectors[frozen]
    os.kill(awake.pid, signal.SIGCONT)
    eventually(lambda: "lost its turn: another collector" in awake.log, 60, "it has lost its turn")
    eventually(lambda: frozen in group.standing_by, 60, "it stands by")

    stopped, before, since = group.active(), group.newest(), time.monotonic()
    assert group.collectors[stopped].stop() == 0
    group.take_over(before, since)

    killed, before, since = group.active(), group.newest(), time.monotonic()
    group.note()
    group.collectors[killed].kill()
    group.take_over(before, since)

    group.simulator.end_market()
    with suppress(TimeoutError):
        eventually(lambda: not group.complaints(), 60, "the tape is the truth")
    assert group.collectors[group.active()].stop() == 0
    assert group.complaints() == []
    assert not [name for name, each in group.collectors.items() if "Traceback" in each.log]
