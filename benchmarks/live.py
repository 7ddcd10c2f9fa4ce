"""From the commit of a closed candle to the commit of what the composite says of it, with fifty instruments.

Each instrument has some days of minutes behind it. Once their candles are committed one by one, as those of
fifty markets come; once all fifty at once, in one transaction, as at the turn of a minute. The next ones are
committed a while after the last ones were followed.
"""

import multiprocessing
import threading
from collections.abc import Iterator, Sequence
from functools import cache
from time import perf_counter, sleep
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from benchmarks import Figure, Figures
from benchmarks.databases import fresh_database
from market import Candle, Timeframe
from market.timeframe import MICROSECONDS
from signals.frame import Array
from signals.options import SignalOptions
from signals.run import run as follow
from signals.target import Selection, Share
from storage import notify
from storage.database import Connection, connect
from storage.tape import write_candles

if TYPE_CHECKING:
    from multiprocessing.queues import Queue

INSTRUMENTS = 50
BEHIND = 5_000
ROUNDS_ONE_BY_ONE, ROUNDS_AT_ONCE = 12, 300
"""Candles of each instrument; the first ones, at which caches are filled, do not count."""
WARM = 2
PAUSE = 0.1
"""Seconds from what was followed to the next candle: what nobody waits for is written by then."""
ALLOWED = 0.050
EXCHANGE = "simulated"
START = 1_772_323_200 * MICROSECONDS
MINUTE = 60 * MICROSECONDS

Done: TypeAlias = "Queue[list[tuple[str, int, float]]]"
"""What was followed: symbols, each with the number of its last candle and when."""


def run() -> Figures:
    """The median and the 99th percentile of each way."""
    figures: Figures = []
    for name, processes, at_once in (
        ("one by one", 1, False),
        ("all fifty at once", 1, True),
        ("all fifty at once, two processes that share them", 2, True),
    ):
        taken = _measure(processes, at_once=at_once)
        p50, p99 = np.percentile(taken, (50, 99)) * 1e3
        what = f"from candle to signal, {name}, {len(taken):,} candles"
        figures.append(Figure(f"{what}, median", float(p50), "ms"))
        figures.append(Figure(f"{what}, p99", float(p99), "ms", ALLOWED * 1e3))
    return figures


def _measure(processes: int, *, at_once: bool) -> list[float]:
    """Seconds from each commit of a candle to that of what is said of it."""
    symbols = [f"C{number:02}/USDT" for number in range(INSTRUMENTS)]
    spawn = multiprocessing.get_context("spawn")
    done: Done = spawn.Queue()
    with fresh_database() as url, connect(url, autocommit=True) as connection:
        for number, symbol in enumerate(symbols):
            write_candles(connection, EXCHANGE, _candles(symbol, number, 0, BEHIND))
        connection.execute("VACUUM ANALYZE candles")
        shares = [Share(part, processes) for part in range(1, processes + 1)]
        following = [spawn.Process(target=_follow, args=(url, share, done), daemon=True) for share in shares]
        for process in following:
            process.start()
        try:
            _wait_for(done, {(symbol, BEHIND - 1) for symbol in symbols})
            return _follow_up(connection, done, symbols, at_once=at_once)
        finally:
            for process in following:
                process.kill()
                process.join()


def _follow(url: str, share: Share, done: Done) -> None:
    for steps in follow(url, SignalOptions(), Selection(share=share), threading.Event()):
        # The same clock in every process.
        now = perf_counter()
        done.put([(step.job.target.symbol, (step.until - START) // MINUTE, now) for step in steps])


def _follow_up(connection: Connection, done: Done, symbols: Sequence[str], *, at_once: bool) -> list[float]:
    taken: list[float] = []
    numbers = {symbol: number for number, symbol in enumerate(symbols)}
    for place in range(BEHIND, BEHIND + (ROUNDS_AT_ONCE if at_once else ROUNDS_ONE_BY_ONE)):
        for together in [symbols] if at_once else [[symbol] for symbol in symbols]:
            with connection.transaction():
                for symbol in together:
                    candle = _candles(symbol, numbers[symbol], place, place + 1)
                    write_candles(connection, EXCHANGE, candle)
                notify.notify(connection, "candles", EXCHANGE)
            committed = perf_counter()
            found = _wait_for(done, {(symbol, place) for symbol in together})
            taken += [at - committed for at in found.values() if place >= BEHIND + WARM]
            sleep(PAUSE)
    return taken


def _wait_for(done: Done, wanted: set[tuple[str, int]]) -> dict[tuple[str, int], float]:
    found: dict[tuple[str, int], float] = {}
    while left := wanted - found.keys():
        for symbol, last, at in done.get(timeout=300):
            # Candles that closed close together are one step.
            found |= {(each, place): at for each, place in left if each == symbol and place <= last}
    return found


@cache
def _walk(number: int) -> Array:
    """Closes of a symbol, its own."""
    steps = np.random.default_rng(number).normal(0, 1e-3, BEHIND + ROUNDS_AT_ONCE)
    return 100 * np.exp(np.cumsum(steps))


def _candles(symbol: str, number: int, first: int, last: int) -> Iterator[Candle]:
    closes = _walk(number)
    for place in range(first, last):
        close = float(closes[place])
        before = float(closes[max(place - 1, 0)])
        volume = 1.0 + place % 7
        buying = volume * (0.5 + 0.4 * float(np.sin(place / 40)))
        yield Candle(
            symbol=symbol,
            timeframe=Timeframe.M1,
            timestamp=START + place * MINUTE,
            open=before,
            high=max(before, close) * 1.0002,
            low=min(before, close) * 0.9998,
            close=close,
            volume=volume,
            buy_volume=buying,
            sell_volume=volume - buying,
            vwap=close,
            trade_count=10,
            cvd_close=0.0,
            imbalance_mean=float(np.cos(place / 30)) * 50,
            imbalance_last=10.0,
            spread_bps_mean=2.0,
            snapshot_count=60,
            is_closed=True,
            is_whole=True,
        )
