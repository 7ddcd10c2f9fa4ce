"""Sweeps on a Dask cluster that is there already: the same runs in the same order, in other processes.

The candles go to every worker once, the setups some at a time; figures come back. Workers that run
other code, or are another kind of machine, are refused: there a run need not be the same bit by bit.
"""

from __future__ import annotations

from collections import deque
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from backtest.outcomes import TOGETHER, ran
from backtest.provenance import code_version, machine
from market.errors import Unavailable, WrongUse

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from backtest.feeds import Source
    from backtest.outcomes import Outcome, Runner
    from backtest.setup import Setup

_SECONDS_TO_CONNECT = 10
_ADDRESSES = ("tcp://", "tls://")


@contextmanager
def runner(address: str) -> Iterator[Runner]:
    """What runs setups on the cluster of the scheduler at this address, such as tcp://10.0.0.5:8786.

    Raises:
        WrongUse: the package distributed is missing, the address is none, or the workers run other code.
        Unavailable: nothing answers there, or there are no workers, or they went while they worked.
    """
    try:
        import distributed
    except ImportError:
        raise WrongUse(
            "a sweep on a cluster needs the package distributed: pip install 'deltatape[cluster]'"
        ) from None
    if not address.startswith(_ADDRESSES):
        raise WrongUse(f"write a scheduler's address as tcp://host:port, not {address!r}")
    connect: Any = distributed.Client
    try:
        client = connect(address, timeout=_SECONDS_TO_CONNECT, set_as_default=False)
    except ValueError as error:
        raise WrongUse(f"{address!r} is no scheduler's address: {error}") from None
    except OSError as error:
        raise Unavailable(f"no Dask scheduler answers at {address}: {error}") from None
    with client:
        _check(client, address)
        try:
            yield partial(_results, client)
        except (OSError, distributed.CancelledError, distributed.KilledWorker) as error:
            raise Unavailable(f"the cluster at {address} is gone: {error}") from None


def _check(client: Any, address: str) -> None:
    """Refuse a cluster without workers, and workers that need not come to the same bits."""
    try:
        said = client.run(_kind)
    except ModuleNotFoundError as error:
        raise WrongUse(f"a worker of {address} has no {error.name}: install deltatape there too") from None
    if not said:
        raise Unavailable(f"the cluster at {address} has no workers: dask worker {address}")
    for worker, kind in said.items():
        for theirs, ours in zip(kind, _kind(), strict=True):
            if theirs != ours:
                raise WrongUse(f"the worker {worker} has {theirs}, here is {ours}: make them the same")


def _kind() -> tuple[str, str]:
    return code_version(), machine()


def _results(client: Any, source: Source, setups: Sequence[Setup]) -> Iterator[list[Outcome]]:
    """As `backtest.outcomes.results`."""
    candles = client.scatter(source, broadcast=True, hash=False)
    most = 2 * sum(client.nthreads().values())
    waiting: deque[Any] = deque()
    try:
        for begin in range(0, len(setups), TOGETHER):
            waiting.append(client.submit(ran, candles, setups[begin : begin + TOGETHER], pure=False))
            # A bound on what is finished but not taken yet.
            if len(waiting) >= most:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        client.cancel(list(waiting))
