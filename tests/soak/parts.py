"""The real parts that a run puts together: a private server, a simulator, a collector, each a process."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
from psycopg import sql

import migrations
from market import Unavailable
from storage import server
from storage.database import connect

ROOT = Path(__file__).parents[2]
PROGRAM = Path(sys.executable).parent / "deltatape"
TESTS_HOME = Path(os.environ.get("DELTATAPE_TEST_HOME") or ROOT / ".cache" / "test-home")
_TEMPLATE = "soak_template"


def eventually(condition: Callable[[], Any], seconds: float, what: str) -> Any:
    """What `condition` gives as soon as it is true; TimeoutError when it is not within `seconds`."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {seconds:g} s: {what}")
        time.sleep(0.1)
    return found


class Server:
    """A private TimescaleDB of its own, which may be stopped and killed, with a database a run."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.url = server.start(home, durable=False)

    def database(self, name: str) -> str:
        """The URL of a new database at the head of the migrations."""
        with connect(self.url, autocommit=True) as admin:
            if not admin.execute("SELECT 1 FROM pg_database WHERE datname = %s", [_TEMPLATE]).fetchone():
                admin.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(_TEMPLATE)))
                migrations.upgrade(self.url_of(_TEMPLATE))
            self.drop(name)
            copy = sql.SQL("CREATE DATABASE {} TEMPLATE {}")
            admin.execute(copy.format(sql.Identifier(name), sql.Identifier(_TEMPLATE)))
            admin.execute(sql.SQL("ALTER DATABASE {} SET timezone = 'UTC'").format(sql.Identifier(name)))
        return self.url_of(name)

    def drop(self, name: str) -> None:
        """Drop a database, whoever is connected."""
        with connect(self.url, autocommit=True) as admin:
            admin.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = %s AND usename = current_user",
                [name],
            )
            admin.execute(sql.SQL("DROP DATABASE IF EXISTS {}").format(sql.Identifier(name)))

    def url_of(self, name: str) -> str:
        return urlsplit(self.url)._replace(path=f"/{name}").geturl()

    def suffer(self, how: str, seconds: float) -> None:
        """Be away for so long: stopped (fast, immediate), killed, or frozen; then be there again."""
        if how == "frozen":
            with self.frozen():
                time.sleep(seconds)
            return
        number = server.status(self.home).pid
        assert number is not None
        numbers = {"fast": signal.SIGINT, "immediate": signal.SIGQUIT, "killed": signal.SIGKILL}
        os.kill(number, numbers[how])
        eventually(lambda: not _is_alive(number), 60, "the server ends")
        time.sleep(seconds)
        server.start(self.home, durable=False)

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """It does nothing and answers nobody, while the context lasts."""
        number = server.status(self.home).pid
        assert number is not None
        numbers = [number, *_children(number)]
        _signal(numbers, signal.SIGSTOP)
        try:
            yield
        finally:
            _signal(numbers, signal.SIGCONT)


def _signal(numbers: Iterable[int], number: signal.Signals) -> None:
    for each in numbers:
        with suppress(ProcessLookupError):
            os.kill(each, number)


def _children(number: int) -> list[int]:
    found = []
    for task in Path(f"/proc/{number}/task").iterdir():
        found += [int(child) for child in (task / "children").read_text().split()]
    return found


def _is_alive(number: int) -> bool:
    try:
        return Path(f"/proc/{number}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


@contextmanager
def private_server(keep: Path | None = None) -> Iterator[Server]:
    """A server with an empty home, on the binaries of the tests' own; or with the home `keep`."""
    home = keep or Path(tempfile.mkdtemp(prefix="deltatape-soak-", dir="/tmp"))
    home.mkdir(parents=True, exist_ok=True)
    home.chmod(0o755)
    unpacked = server.reachable_home(TESTS_HOME) / "server"
    if unpacked.exists() and not (home / "server").exists():
        (home / "server").symlink_to(unpacked)
    try:
        yield Server(home)
    finally:
        with suppress(Unavailable):
            server.stop(home)
        if keep is None:
            shutil.rmtree(home, ignore_errors=True)


class Simulator:
    """A failing exchange in a process of its own: see `tests.soak.exchange`."""

    def __init__(self, folder: Path, **plan: Any) -> None:
        self.truth_file, self.log_file = folder / "truth.jsonl", folder / "faults.jsonl"
        plan |= {"truth": str(self.truth_file), "fault_log": str(self.log_file)}
        self._errors = (folder / "simulator.log").open("w")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.soak.exchange", json.dumps(plan)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
        )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        found = re.search(r"ws://[\d.]+:\d+", line)
        assert found, (folder / "simulator.log").read_text()
        self.ws_url = found[0]
        self.rest_url = self.ws_url.replace("ws:", "http:")

    def truth(self) -> list[dict[str, str]]:
        """Every trade so far."""
        return _lines(self.truth_file)

    def log(self) -> list[dict[str, Any]]:
        """What went wrong so far, and what was sent."""
        return _lines(self.log_file)

    def has(self, event: str) -> bool:
        return f'"event":"{event}"' in self.log_file.read_text()

    def is_heard(self, symbols: Iterable[str], since: int) -> bool:
        """Whether somebody is connected who was sent every symbol after `since`, but for the delisted.

        Only then ids show what is missing: a market that ends while nobody listens, ends unknown.
        """
        log = self.log()
        opened = [line for line in log if line["event"] == "opened"]
        closed = {line["connection"] for line in log if line["event"] in ("closed", "cut")}
        if not opened or opened[-1]["connection"] in closed:
            return False
        since = max(opened[-1]["time"], since)
        gone = {line["symbol"] for line in log if line.get("kind") == "delisting"}
        heard = {line["symbol"] for line in log if line["event"] == "sent" and line["time"] > since}
        return heard >= set(symbols) - gone

    def end_market(self) -> None:
        """Let the market stop, and wait for it."""
        assert self._process.stdin is not None
        self._process.stdin.write("end\n")
        self._process.stdin.flush()
        eventually(lambda: self.has("ended"), 60, "the market stops")

    def stop(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(30)
        self._process.stdout.close()
        self._errors.close()


def _lines(path: Path) -> list[Any]:
    # The last line may be half written.
    return [json.loads(line) for line in path.read_text().split("\n")[:-1]]


class Collector:
    """`deltatape collect` from a simulator, in a process of its own, which is killed and started again."""

    def __init__(self, folder: Path, url: str, simulator: Simulator, symbols: str, **settings: str) -> None:
        self.starts = 0
        self._folder = folder
        self._targets = ["--ws-url", simulator.ws_url, "--rest-url", simulator.rest_url]
        self._command = [PROGRAM, "collect", "--exchange", "simulated", "--symbols", symbols, "--wait"]
        self._environment = environment(folder, url, **settings)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> str:
        """What all the processes said."""
        return "\n".join(
            f"--- collector {i}\n{path.read_text()}"
            for i in range(1, self.starts + 1)
            if (path := self._folder / f"collector{i}.log").exists()
        )

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        self.starts += 1
        with (self._folder / f"collector{self.starts}.log").open("wb") as log:
            self._process = subprocess.Popen(
                [*self._command, *self._targets, "--json"],
                env=self._environment,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def kill(self) -> None:
        """kill -9."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(20)

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        assert self._process is not None
        self._process.terminate()
        return self._process.wait(120)


def environment(folder: Path, url: str, **settings: str) -> dict[str, str]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith("DELTATAPE_")}
    ours = {"DELTATAPE_DATABASE_URL": url, "DELTATAPE_HOME": str(folder / "home")}
    return {**clean, **ours, **{f"DELTATAPE_{name.upper()}": value for name, value in settings.items()}}


def run(folder: Path, url: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Another `deltatape` command."""
    return subprocess.run(
        [PROGRAM, *arguments],
        env=environment(folder, url),
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def rows(url: str, query: str, parameters: Any = None) -> list[tuple[Any, ...]]:
    """The answer to a query, tried again while the database is away."""
    deadline = time.monotonic() + 30
    while True:
        try:
            with connect(url) as connection:
                return connection.execute(query.encode(), parameters).fetchall()
        except (psycopg.OperationalError, Unavailable):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)
