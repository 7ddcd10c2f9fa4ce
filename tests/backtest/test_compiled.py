import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import backtest
from backtest.compiled import cache_folder

ROOT = Path(backtest.__file__).parent.parent
FOLDER = "from backtest.compiled import cache_folder; print(cache_folder())"
HITS = """
from backtest.batch import _walk
from backtest.policies import follow_signals
for function in (_walk, follow_signals):
    print(sum(function.stats.cache_hits.values()), sum(function.stats.cache_misses.values()))
"""
WARM = """
import gc
import numpy as np
from numba.core.dispatcher import Dispatcher
import deltatape as dt
from backtest.warm import warm_up

def compiled():
    found = [each for each in gc.get_objects() if isinstance(each, Dispatcher)]
    return {(each.__module__, each.__name__, kinds) for each in found for kinds in each.overloads}

warm_up()
before = compiled()
time, price = np.arange(500) * 60, 100 + np.sin(np.arange(500))
candles = {"time": time, "open": price, "high": price, "low": price, "close": price}
trades = {"timestamp": time, "price": price, "size": np.ones(500)}
for table in (candles, trades):
    result = dt.backtest(table, "ema_cross", stop=0.01, timeframe="1m")
    print(len(str(result)), len(result.returns), len(result.day_columns()), end=" ")
print(len(before) > 5, *{name for _, name, _ in compiled() - before})
"""
ADD = "from backtest.compiled import compiled; print(compiled()(lambda x: x + 1)(1))"


def python(code: str, root: Path = ROOT, **environment: str) -> list[str]:
    ours = {"NUMBA_CACHE_DIR", "DELTATAPE_HOME", "XDG_CACHE_HOME"}
    clean = {name: value for name, value in os.environ.items() if name not in ours}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=clean | {"PYTHONPATH": str(root), "PYTHONDONTWRITEBYTECODE": "1"} | environment,
        cwd=root,
        capture_output=True,
        text=True,
        timeout=200,
        check=True,
    )
    return done.stdout.split()


def where_we_compile() -> dict[str, str]:
    """So that another process need not compile all that this one has."""
    folder = cache_folder()
    assert folder is not None
    return {"NUMBA_CACHE_DIR": str(folder.parent)}


@pytest.fixture
def copy(tmp_path):
    """The package and what it imports, without anything compiled."""
    for name in ("market", "backtest"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def test_a_new_process_finds_the_machine_code():
    python(HITS, **where_we_compile())
    assert python(HITS, **where_we_compile()) == ["1", "0", "1", "0"]


def test_warming_up_compiles_what_candles_and_trades_need():
    assert python(WARM, **where_we_compile())[-1] == "True"


def test_the_folder_is_the_homes_then_the_packages(copy):
    (home,) = python(FOLDER, copy, DELTATAPE_HOME=str(copy / "home"))
    assert home.startswith(str(copy / "home" / "cache" / "backtest-"))
    (package,) = python(FOLDER, copy)
    assert package.startswith(str(copy / "backtest" / "__pycache__" / "backtest-"))
    (named,) = python(FOLDER, copy, NUMBA_CACHE_DIR=str(copy / "named"), DELTATAPE_HOME=str(copy / "home"))
    assert named.startswith(str(copy / "named"))


def test_an_edit_of_what_is_compiled_has_another_folder(copy):
    folders = python(FOLDER, copy)
    # The second one compiles nothing, but its constants are part of the machine code.
    for edited in ("backtest/kernel.py", "backtest/state.py", "backtest/report.py"):
        file = copy / edited
        file.write_text(file.read_text() + "\n# edited\n")
        folders += python(FOLDER, copy)
    before, kernel, state, report = folders
    assert len({before, kernel, state}) == 3
    assert report == state


def test_a_package_that_cannot_be_written_uses_the_users_folder(copy):
    # A file where the folder would have to be stops root too, who may write anywhere.
    (copy / "backtest" / "__pycache__").write_text("")
    (folder,) = python(FOLDER, copy, HOME=str(copy / "user"))
    assert folder.startswith(str(copy / "user" / ".cache" / "deltatape"))


def test_without_any_folder_it_still_compiles(copy):
    (copy / "backtest" / "__pycache__").write_text("")
    blocked = str(copy / "backtest" / "__pycache__")
    nowhere = dict.fromkeys(("NUMBA_CACHE_DIR", "DELTATAPE_HOME", "HOME", "XDG_CACHE_HOME"), blocked)
    assert python(FOLDER, copy, **nowhere) == ["None"]
    assert python(ADD, copy, **nowhere) == ["2"]
