"""From the commit of a closed candle to the commit of what the composite says of it, with fifty instruments.

Each instrument has some days of minutes behind it. Once their candles are committed one by one, as those of
fifty markets come; once all in one transaction, as at the turn of a minute.
"""

import threading
from collections.abc import Iterator, Sequence
from queue import SimpleQueue
from time import perf_counter, sleep

import numpy as np

from benchmarks import Figure, Figures
from benchmarks.databases import fresh_database
from market import Candle, Timeframe
from market.timeframe import MICROSECONDS
from signals.options import SignalOptions
from signals.run import run as follow
from signals.target import Selection
from storage import notify
from storage.database import Connection, connect
from storage.tape import write_candles

INSTRUMENTS = 50
BEHIND = 5_000
ROUNDS = 12
PAUSE = 0.04
"""Seconds between the candles of two instruments, where they come one by one."""
ALLOWED = 0.050
EXCHANGE = "simulated"
START = 1_772_323_200 * MICROSECONDS
MINUTE = 60 * MICROSECONDS


def run() -> Figures:
    """The median and the 99th percentile of both ways."""
    symbols = [f"C{number:02}/USDT" for number in range(INSTRUMENTS)]
    with fresh_database() as url, connect(url, autocommit=True) as connection:
        for number, symbol in enumerate(symbols):
            write_candles(connection, EXCHANGE, _candles(symbol, number, 0, BEHIND))
        connection.execute("VACUUM ANALYZE candles")
        done: SimpleQueue[tuple[str, int, float]] = SimpleQueue()
        stop = threading.Event()
        following = threading.Thread(target=_follow, args=(url, done, stop), daemon=True)
        following.start()
        _wait_for(done, {(symbol, BEHIND - 1) for symbol in symbols})
        one_by_one = _measure(connection, done, symbols, BEHIND, at_once=False)
        at_once = _measure(connection, done, symbols, BEHIND + ROUNDS, at_once=True)
        stop.set()
        following.join()
    figures: Figures = []
    for name, taken in (("one by one", one_by_one), ("all at once", at_once)):
        p50, p99 = np.percentile(taken, (50, 99)) * 1e3
        figures.append(Figure(f"from candle to signal, {name}, median", float(p50), "ms"))
        figures.append(Figure(f"from candle to signal, {name}, p99", float(p99), "ms", ALLOWED * 1e3))
    return figures


def _follow(url: str, done: SimpleQueue[tuple[str, int, float]], stop: threading.Event) -> None:
    for steps in follow(url, SignalOptions(), Selection(), stop):
        for step in steps:
            done.put((step.job.target.symbol, (step.until - START) // MINUTE, perf_counter()))


def _measure(
    connection: Connection,
    done: SimpleQueue[tuple[str, int, float]],
    symbols: Sequence[str],
    first: int,
    *,
    at_once: bool,
) -> list[float]:
    committed: dict[tuple[str, int], float] = {}
    for place in range(first, first + ROUNDS):
        for together in [symbols] if at_once else [[symbol] for symbol in symbols]:
            with connection.transaction():
                for number, symbol in enumerate(symbols):
                    if symbol in together:
                        write_candles(connection, EXCHANGE, _candles(symbol, number, place, place + 1))
                notify.notify(connection, "candles", EXCHANGE)
            committed |= {(symbol, place): perf_counter() for symbol in together}
            sleep(PAUSE * len(together))
    found = _wait_for(done, set(committed))
    return [found[key] - at for key, at in committed.items()]


def _wait_for(
    done: SimpleQueue[tuple[str, int, float]], wanted: set[tuple[str, int]]
) -> dict[tuple[str, int], float]:
    found: dict[tuple[str, int], float] = {}
    while left := wanted - found.keys():
        symbol, last, at = done.get(timeout=300)
        # Candles that closed close together are one step.
        found |= {(each, place): at for each, place in left if each == symbol and place <= last}
    return found


def _candles(symbol: str, number: int, first: int, last: int) -> Iterator[Candle]:
    """A walk of its own for each symbol, the same whenever it is asked for."""
    steps = np.random.default_rng(number).normal(0, 1e-3, BEHIND + 2 * ROUNDS)
    closes = 100 * np.exp(np.cumsum(steps))
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
