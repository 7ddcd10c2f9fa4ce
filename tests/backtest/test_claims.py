import os
import subprocess
import sys
from uuid import UUID

import pytest
from tapes import random_frame

from backtest import history
from backtest.claims import mark_killed
from backtest.feeds import Source
from backtest.run import run
from backtest.setup import setup
from backtest.store import Market, running
from backtest.sweep import sweep
from storage.database import connect

MARKET = Market("binance", "ETH/BTC")
RUNS = """
import sys, time
sys.path.insert(0, "tests/backtest")
from tapes import random_frame
from backtest.setup import setup
from backtest.store import Market, running
from storage.database import connect

with connect(sys.argv[1]) as connection:
    with running(connection, setup("ema_cross"), random_frame(50), Market("binance", "ETH/BTC")) as run:
        print(run.run_id, flush=True)
        time.sleep(200)
"""


def status(connection, run_id):
    row = history.run(connection, str(run_id))
    return row["status"], row["error"]


def test_a_killed_run_is_marked_and_one_at_work_is_not(connection, database, pytestconfig):
    process = subprocess.Popen(
        [sys.executable, "-c", RUNS, database], stdout=subprocess.PIPE, text=True, cwd=pytestconfig.rootpath
    )
    run_id = UUID(process.stdout.readline().strip())
    mark_killed(connection)
    assert status(connection, run_id) == ("running", None)
    (backend,) = connection.execute(
        "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND pid <> pg_backend_pid()"
        " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    ).fetchone()
    process.kill()
    process.wait()
    process.stdout.close()
    # The server notices on its own that the process is gone; its session is waited for.
    alive = "SELECT count(*) FROM pg_stat_activity WHERE pid = %s"
    while connection.execute(alive, (backend,)).fetchone() != (0,):
        connection.rollback()
        os.sched_yield()
    mark_killed(connection)
    assert status(connection, run_id) == ("failed", "its process was killed")
    assert connection.execute("SELECT count(*) FROM fills").fetchone() == (0,)


def test_a_run_that_ended_in_order_keeps_its_status(connection, database):
    frame = random_frame(50)
    with connect(database) as other:
        with running(other, setup("ema_cross"), frame, MARKET) as begun:
            begun.complete(run(frame, "ema_cross"))
        with pytest.raises(KeyboardInterrupt), running(other, setup("ema_cross"), frame, MARKET) as stopped:
            raise KeyboardInterrupt
    mark_killed(connection)
    assert status(connection, begun.run_id)[0] == "completed"
    assert status(connection, stopped.run_id)[0] == "cancelled"


def test_a_sweep_at_work_is_not_marked(connection, database):
    seen = []

    def look(_count):
        with connect(database) as other:
            mark_killed(other)
            seen.append(history.sweeps(other, 1)[0]["status"])

    with connect(database) as working:
        definition = {"strategy": "ema_cross", "grid": {}}
        options = {"definition": definition, "progress": look}
        sweep(working, Source("", random_frame(50)), [setup("ema_cross")], MARKET, **options)
    connection.execute("UPDATE sweeps SET status = 'running'")
    mark_killed(connection)
    assert seen == ["running"]
    row = history.sweeps(connection, 1)[0]
    assert (row["status"], row["statistics"]) == ("failed", {"error": "its process was killed"})
