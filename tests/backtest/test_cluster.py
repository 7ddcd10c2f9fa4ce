"""A sweep on a Dask cluster: a real scheduler and real workers, each a process of its own on loopback."""

import json
import os
import socket
import subprocess
import sys
import time

import pytest
from distributed import Client

from backtest import cluster, grid
from backtest.feeds import Source
from backtest.outcomes import results
from market import Unavailable, WrongUse

PATIENCE = 60


def start(*arguments, **environment):
    return subprocess.Popen(
        [sys.executable, "-m", *arguments],
        env=os.environ | {"DASK_DISTRIBUTED__ADMIN__TICK__LIMIT": "1h"} | environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


@pytest.fixture(scope="module")
def scheduler(tmp_path_factory):
    """The address of a scheduler without workers."""
    file = tmp_path_factory.mktemp("dask") / "scheduler.json"
    place = ("--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--scheduler-file", str(file))
    process = start("distributed.cli.dask_scheduler", *place)
    try:
        yield _address(file, process)
    finally:
        process.terminate()
        process.wait(PATIENCE)


def _address(file, process):
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until and process.poll() is None:
        try:
            return json.loads(file.read_text())["address"]
        except (OSError, ValueError):
            time.sleep(0.05)
    raise TimeoutError("the scheduler did not start")


@pytest.fixture
def workers(scheduler, tmp_path):
    """Two workers of it."""
    common = ("--nthreads", "1", "--no-nanny", "--no-dashboard", "--local-directory", str(tmp_path))
    processes = [start("distributed.cli.dask_worker", scheduler, *common) for _ in range(2)]
    try:
        _wait_for_workers(scheduler, 2)
        yield scheduler
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait(PATIENCE)
        _wait_for_workers(scheduler, 0)


def _wait_for_workers(scheduler, count):
    until = time.monotonic() + PATIENCE
    with Client(scheduler, timeout=PATIENCE, set_as_default=False) as client:
        while len(client.scheduler_info(-1)["workers"]) != count:
            if time.monotonic() > until:
                raise TimeoutError(f"there are not {count} workers")
            time.sleep(0.05)


def test_runs_on_a_cluster_are_those_of_this_machine_bit_by_bit(workers, frame):
    setups, _ = grid.setups("ema_cross", {"fast": range(3, 20), "slow": [30, 45], "stop": [0.0, 0.01]})
    source = Source("", frame)
    with cluster.runner(workers) as run:
        there = [same(outcome) for part in run(source, setups) for outcome in part]
    assert there == [same(outcome) for part in results(source, setups) for outcome in part]
    assert len(there) == len(setups)


def same(outcome):
    """All of it but the time that it took."""
    return outcome._replace(returns=outcome.returns.tolist(), seconds=0.0)


def test_a_cluster_without_workers_is_unavailable(scheduler):
    with pytest.raises(Unavailable, match="has no workers: dask worker tcp://"), cluster.runner(scheduler):
        pass


def test_a_scheduler_that_does_not_answer_is_unavailable(monkeypatch):
    monkeypatch.setattr(cluster, "_SECONDS_TO_CONNECT", 1)
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{closed.getsockname()[1]}"
        with pytest.raises(Unavailable, match=f"no Dask scheduler answers at {address}"):
            cluster.runner(address).__enter__()


@pytest.mark.parametrize("address", ["localhost", "http://127.0.0.1:8786", ""])
def test_what_is_no_address_is_refused(address):
    with pytest.raises(WrongUse, match="write a scheduler's address as tcp://host:port"):
        cluster.runner(address).__enter__()


def test_without_the_package_it_says_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(WrongUse, match=r"pip install 'deltatape\[cluster\]'"):
        cluster.runner("tcp://127.0.0.1:1").__enter__()
