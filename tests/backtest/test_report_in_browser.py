"""The report in a real browser, which has no network: Chromium, where it is installed."""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
from tapes import random_frame

from backtest.doors import backtest

NAMES = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)


def opened(program: str, page: str, home: Path) -> subprocess.CompletedProcess[str]:
    """What the browser made of a page, once all of it was loaded."""
    command = [program, *FLAGS, f"--user-data-dir={home}", "--dump-dom", page]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


@contextmanager
def server() -> Iterator[tuple[str, list[str]]]:
    """A web server of this machine, and the paths that it was asked for."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_error(404)

        def log_message(self, *_: object) -> None:
            """Nothing is said."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as serving:
        thread = Thread(target=serving.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{serving.server_port}", asked
        finally:
            serving.shutdown()
            thread.join()


@pytest.fixture
def browser(tmp_path: Path) -> str:
    program = next((found for name in NAMES if (found := shutil.which(name))), None)
    if program is None:
        pytest.skip(f"none of {', '.join(NAMES)} is installed")
    try:
        works = "<body>" in opened(program, "about:blank", tmp_path / "first").stdout
    except subprocess.TimeoutExpired:
        works = False
    if not works:
        pytest.skip(f"{program} does not start here")
    return program


def test_it_opens_offline_with_its_holes_first_and_asks_for_nothing(browser, tmp_path):
    frame = random_frame(600)
    table = {
        name: np.delete(frame.column(name), slice(200, 260)) for name in ("open", "high", "low", "close")
    }
    table["timestamp"] = np.delete(frame.timestamp, slice(200, 260))
    page = backtest(table, "ema_cross", fast=5, slow=20).report(tmp_path / "report.html")
    seen = opened(browser, page.as_uri(), tmp_path / "second")
    places = [
        seen.stdout.index(said) for said in ("Candles are missing in 1 place", "Figures", "Equity", "<svg")
    ]
    assert places == sorted(places)
    # It cannot ask anybody: what is added to it is refused, by what it says itself.
    with server() as (address, asked):
        spoiled = page.read_text().replace("</body>", f'<img src="{address}/a.png"></body>')
        for name, text in (("held", spoiled), ("free", spoiled.replace("Content-Security-Policy", "x"))):
            (tmp_path / f"{name}.html").write_text(text)
            assert "<svg" in opened(browser, (tmp_path / f"{name}.html").as_uri(), tmp_path / name).stdout
            assert asked == ([] if name == "held" else ["/a.png"])
