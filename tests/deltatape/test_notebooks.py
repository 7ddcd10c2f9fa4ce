import asyncio
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from collector.collect import Target, open_collector
from collector.simulator.server import serve
from market import Timeframe, parse_time
from signals.compute import compute
from signals.options import SignalOptions
from signals.target import Selection

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))
HOUR = 3_600_000_000


async def collect_some_hours(url, spool):
    async with serve(["BTC/USDT"], 3, start=parse_time("2026-03-02T00:00:00Z"), speed=1e6) as simulator:
        target = Target(
            exchange="simulated",
            symbols=("BTC/USDT",),
            ws_url=simulator.address.ws_url,
            rest_url=simulator.address.rest_url,
        )
        collector = await open_collector(target, url, spool)
        running = asyncio.create_task(collector.run())
        async with asyncio.timeout(60):
            while collector.session.stream("BTC/USDT").time < parse_time("2026-03-02T00:00:00Z") + 2 * HOUR:
                await asyncio.sleep(0.1)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await collector.close()


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
# Jupyter's own code warns about its event loop and its sockets.
@pytest.mark.filterwarnings("default")
def test_notebook_runs(path, database, tmp_path, monkeypatch):
    asyncio.run(collect_some_hours(database, tmp_path))
    selection = Selection("simulated", ("BTC/USDT",), (Timeframe.M1,))
    assert list(compute(database, SignalOptions(), selection, 0, 10**16))
    monkeypatch.setenv("DELTATAPE_DATABASE_URL", database)
    monkeypatch.setenv("DELTATAPE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "jupyter"))
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(tmp_path)}}).execute()
    errors = [
        output
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if output.output_type == "error"
    ]
    assert errors == []
