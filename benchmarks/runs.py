"""Backtests as people run them: from stored candles to a stored run, a stored sweep, a new process.

The bound of a stored run is its three parts at their barest: the candles drained from the database, signals
and kernel without a store around them, and the rows that it stores as prepared bytes through COPY. vectorbt
runs the same sweep where it is installed. The bound of a stored sweep is the kernel alone for every
combination, on all cores, and the rows of its best runs as prepared bytes.
"""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from statistics import median
from time import perf_counter
from typing import Any

from psycopg import sql

from backtest.account import Account
from backtest.batch import walk
from backtest.bulk import copy_columns
from backtest.feeds import Source, columns
from backtest.grid import setups
from backtest.run import execute
from backtest.run import run as backtest
from backtest.setup import Setup, setup
from backtest.store import Market, running
from backtest.sweep import sweep
from benchmarks import Figure, Figures
from benchmarks.apart import in_process, peak_memory
from benchmarks.backtest import CANDLES, COMBINATIONS, FAST, SLOW, SWEPT_CANDLES, market
from benchmarks.databases import fresh_database
from market import Timeframe
from signals.frame import CandleFrame
from storage import read
from storage.database import Connection, connect

MARKET = Market("binance", "BTC/USDT")
ROUNDS, PROCESSES = 3, 7
KEPT, THREADS = 3, os.cpu_count() or 1
_PARAMETERS = {"fast": FAST, "slow": SLOW}
_DEFINITION = {"strategy": "ema_cross", "grid": {}}
_TABLES = ("positions", "fills", "backtest_equity_curve")
_NEW_PROCESS = """
import numpy as np
import deltatape as dt
close = 100 + np.cumsum(np.sin(np.arange(100_000) ** 1.5))
close -= close.min() - 100
candles = {"time": np.arange(100_000) * 60, "open": close, "high": close, "low": close, "close": close}
print(dt.backtest(candles, "ema_cross"))
"""


def run() -> Figures:
    """A stored run over a million candles, a stored sweep, and a new process."""
    with fresh_database() as url:
        return [*_stored_run(url), *_stored_sweep(url), *_new_process()]


def _stored_run(url: str) -> Figures:
    with connect(url) as connection:
        _fill(connection, market(CANDLES))
    rounds = [(_whole(url), _bare_read(url), _bare_kernel(url), _bare_copy(url)) for _ in range(ROUNDS + 1)]
    # The first one compiles, and fills the server's buffers.
    whole, read_, kernel, copied = (median(part) for part in zip(*rounds[1:], strict=True))
    what = f"{CANDLES:,} candles"
    return [
        Figure(f"bare read of {what}", read_, "s"),
        Figure("signals, kernel and metrics", kernel, "s"),
        Figure("raw COPY of the rows of a run", copied, "s"),
        Figure(f"database to stored run, {what}", whole, "s", read_ + kernel + copied),
    ]


def _fill(connection: Connection, frame: CandleFrame) -> None:
    names = ("open", "high", "low", "close", "volume")
    values = {"timestamp": frame.timestamp} | {name: frame.column(name) for name in names}
    constants: dict[str, Any] = {
        "exchange": MARKET.exchange,
        "symbol": MARKET.symbol,
        "interval": str(frame.timeframe),
    }
    constants |= {"is_closed": True, "is_whole": True, "source": "import"}
    copy_columns(connection, "candles", values, constants)
    connection.execute("ANALYZE candles")
    connection.commit()


def _whole(url: str) -> float:
    begun = perf_counter()
    frame = CandleFrame.from_polars(read.candles(url, MARKET.exchange, MARKET.symbol, "1m"), Timeframe.M1)
    with (
        connect(url) as connection,
        running(connection, setup("ema_cross", _PARAMETERS), frame, MARKET) as stored,
    ):
        stored.complete(backtest(frame, "ema_cross", _PARAMETERS))
    return perf_counter() - begun


def _bare_read(url: str) -> float:
    query = "COPY (SELECT * FROM candles WHERE interval = '1m' ORDER BY timestamp) TO STDOUT (FORMAT BINARY)"
    begun = perf_counter()
    with connect(url) as connection, connection.cursor() as cursor, cursor.copy(query) as copy:
        for _ in copy:
            pass
    return perf_counter() - begun


def _bare_kernel(url: str) -> float:
    frame, chosen = market(CANDLES), setup("ema_cross", _PARAMETERS)
    begun = perf_counter()
    execute(chosen, Source("", frame), curve=True)
    return perf_counter() - begun


def _bare_copy(url: str) -> float:
    """The rows of the runs that are there taken out and put back as they were; then it is deleted."""
    with connect(url) as connection:
        taken = {table: _taken(connection, table) for table in _TABLES}
        for table in reversed(_TABLES):
            connection.execute(sql.SQL("DELETE FROM {}").format(sql.Identifier(table)))
        connection.commit()
        begun = perf_counter()
        for table, data in taken.items():
            query = sql.SQL("COPY {} FROM STDIN (FORMAT BINARY)").format(sql.Identifier(table))
            with connection.cursor() as cursor, cursor.copy(query) as copy:
                copy.write(data)
        connection.commit()
        seconds = perf_counter() - begun
        connection.execute("DELETE FROM backtest_runs")
        connection.commit()
        return seconds


def _taken(connection: Connection, table: str) -> bytes:
    out = sql.SQL("COPY (SELECT * FROM {}) TO STDOUT (FORMAT BINARY)").format(sql.Identifier(table))
    with connection.cursor() as cursor, cursor.copy(out) as copy:
        return b"".join(copy)


def _stored_sweep(url: str) -> Figures:
    bare, rows, kept, memory = in_process(_swept, url)
    what, peer = f"sweep of {COMBINATIONS:,} × {SWEPT_CANDLES:,}", _peer()
    return [
        Figure(f"bare {what}: signals and kernel on {THREADS} threads", bare, "s"),
        Figure(f"raw COPY of fills, positions and curves of its best {KEPT}", _bare_copy(url), "s"),
        Figure(f"stored {what}: a row for each run", rows, "s", peer),
        Figure(f"stored {what}: and everything of the best {KEPT}", kept, "s", peer),
        Figure(f"stored {what}: peak memory", memory, "MB", 1_000.0),
    ]


def _combinations() -> list[Setup]:
    found, _ = setups("ema_cross", {"fast": range(2, 42), "slow": range(50, 100, 2)}, None, Account())
    return found


def _swept(url: str) -> tuple[float, float, float, float]:
    """Seconds of the bare sweep, of the stored one, of that with its best, in turns; and the memory."""
    frame, combinations = market(SWEPT_CANDLES), _combinations()
    with connect(url) as connection:

        def stored(keep: int) -> float:
            connection.execute("DELETE FROM sweeps")
            connection.commit()
            begun = perf_counter()
            sweep(connection, Source("", frame), combinations, MARKET, definition=_DEFINITION, keep=keep)
            return perf_counter() - begun

        rounds = [(_bare_sweep(frame, combinations), stored(0), stored(KEPT)) for _ in range(ROUNDS + 1)]
    bare, rows, kept = (median(part) for part in zip(*rounds[1:], strict=True))
    return bare, rows, kept, peak_memory()


def _bare_sweep(frame: CandleFrame, combinations: list[Setup]) -> float:
    candles = columns(frame)

    def walked(part: list[Setup]) -> None:
        for each in part:
            signals = each.strategy.signals(frame, each.values)
            state, policy = each.account.state(), each.policy.record()
            walk(state, policy, candles, signals, curve=False)

    begun = perf_counter()
    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(walked, [combinations[i::THREADS] for i in range(THREADS)]))
    return perf_counter() - begun


def _peer() -> float | None:
    """How long vectorbt takes for the runs and some of their figures, storing nothing; None without it."""
    if find_spec("vectorbt") is None:
        print("vectorbt is not installed: pip install -e '.[peers]'", file=sys.stderr)
        return None
    vectorbt: Any = __import__("vectorbt")
    frame = market(SWEPT_CANDLES)
    costs = {"fees": 0.001, "slippage": 0.0001}
    begun = perf_counter()
    for each in _combinations():
        fast, slow = (vectorbt.MA.run(frame.close, each.values[name], ewm=True) for name in _PARAMETERS)
        crossed = (fast.ma_crossed_above(slow), fast.ma_crossed_below(slow))
        entries, exits = (signals.vbt.signals.fshift(1) for signals in crossed)
        portfolio = vectorbt.Portfolio.from_signals(
            frame.close, entries, exits, price=frame.open, freq="1min", **costs
        )
        for figure in ("sharpe_ratio", "sortino_ratio", "calmar_ratio", "max_drawdown", "omega_ratio"):
            getattr(portfolio, figure)()
        portfolio.trades.win_rate()
    return perf_counter() - begun


def _new_process() -> Figures:
    taken = []
    # Python's own cache is warm too, as an installed package has it, even where none is to be written here.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    for _ in range(PROCESSES):
        begun = perf_counter()
        subprocess.run(
            [sys.executable, "-c", _NEW_PROCESS], check=True, stdout=subprocess.DEVNULL, env=environment
        )
        taken.append(perf_counter() - begun)
    return [Figure(f"new process to result, cache warm, {os.cpu_count()} cores", median(taken[1:]), "s", 0.9)]
