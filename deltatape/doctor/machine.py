"""The machine: Python, packages, settings, the home folder, and its clock against the exchanges'."""

import os
import re
import shutil
import sys
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from importlib import metadata
from pathlib import Path
from platform import python_version

import httpx

from collector import exchanges
from deltatape.doctor.finding import Finding, State
from deltatape.settings import CollectOptions, Settings, config_file
from market import DeltatapeError
from storage.server.layout import layout

LEAST_PYTHON = (3, 11)
LITTLE_DISK = 5 * 10**9
LONGEST_SOCKET = 107
ONLINE_SECONDS = 2.0
CLOCK_SECONDS = 2.0
"""An exchange's `Date` header has whole seconds, so that less says nothing."""
_REQUIREMENT = re.compile(r"^([A-Za-z0-9._-]+)(?:\[[^\]]*\])?([^;]*)(;.*)?$")


def python() -> Finding:
    """The interpreter."""
    if sys.version_info < LEAST_PYTHON:
        return Finding(
            "python", State.ERROR, python_version(), "install Python 3.11 or later, then: make setup"
        )
    return Finding("python", State.OK, f"{python_version()} ({sys.executable})")


def packages() -> Finding:
    """What `deltatape` requires, and what is installed."""
    wrong, count = [], 0
    for requirement in metadata.requires("deltatape") or ():
        found = _REQUIREMENT.match(requirement)
        if found is None or (found[3] and "extra ==" in found[3]):
            continue
        name, wanted, marker = found[1], found[2].strip(" ()"), found[3] or ""
        if "sys_platform == 'linux'" in marker.replace('"', "'") and sys.platform != "linux":
            continue
        count += 1
        try:
            version = metadata.version(name)
        except metadata.PackageNotFoundError:
            wrong.append(f"{name} is missing")
            continue
        if not _satisfies(version, wanted):
            wrong.append(f"{name} {version} is not {wanted}")
    if wrong:
        return Finding("packages", State.ERROR, ", ".join(wrong), "make setup")
    return Finding("packages", State.OK, f"{count} packages, each in its range")


def _satisfies(version: str, wanted: str) -> bool:
    """Whether a release lies in a range of `>=` and `<`, the only kinds that our requirements use."""
    for part in filter(None, wanted.split(",")):
        bound = _numbers(part.lstrip("<>= "))
        if part.startswith(">=") and _numbers(version) < bound:
            return False
        if part.startswith("<") and _numbers(version) >= bound:
            return False
    return True


def _numbers(version: str) -> tuple[int, ...]:
    release = re.match(r"[0-9.]*", version)
    return tuple(int(part) for part in (release[0] if release else "").split(".") if part)


def settings(found: Settings | str) -> Finding:
    """The settings file and the environment."""
    if isinstance(found, str):
        return Finding("settings", State.ERROR, found, f"correct it in {config_file()} or the environment")
    if not config_file().is_file():
        return Finding("settings", State.OK, f"defaults and environment (no {config_file()})")
    return Finding("settings", State.OK, str(config_file()))


def folder(home: Path) -> Iterator[Finding]:
    """DELTATAPE_HOME: writable, with room, and near enough for a socket."""
    existing = next(path for path in (home, *home.parents) if path.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        text = f"cannot write in {existing}"
        yield Finding("home", State.ERROR, text, "set DELTATAPE_HOME to a folder that you can write")
        return
    yield Finding("home", State.OK, str(home) if home.exists() else f"{home} (will be made)")
    free = shutil.disk_usage(existing).free
    text = f"{free / 1e9:,.1f} GB free"
    if free < LITTLE_DISK:
        fix = "free some, or set DELTATAPE_HOME to a folder on a larger disk"
        yield Finding("disk", State.WARNING, text, fix)
    else:
        yield Finding("disk", State.OK, text)
    socket = layout(home).socket / ".s.PGSQL.5432"
    length = len(os.fsencode(socket))
    if length > LONGEST_SOCKET:
        text = f"{socket} has {length} characters, a socket's path at most {LONGEST_SOCKET}"
        yield Finding("socket", State.ERROR, text, "set DELTATAPE_HOME to a shorter path")
    else:
        yield Finding("socket", State.OK, f"a path of {length} characters")


def exchange_clocks(collected: Iterable[CollectOptions]) -> list[Finding]:
    """This machine's clock against that of each exchange that is configured, else of Binance."""
    wanted = {options.exchange: options.rest_url for options in collected} or {"binance": None}
    with ThreadPoolExecutor(max_workers=8) as pool:
        return list(pool.map(lambda one: exchange_clock(*one), wanted.items()))


def exchange_clock(exchange: str, rest_url: str | None) -> Finding:
    """This machine's clock against the time that an exchange's REST server puts on its answers."""
    check = f"clock ({exchange})"
    try:
        url = rest_url or exchanges.find(exchange).rest_url
        before = datetime.now(UTC)
        answer = httpx.head(url, timeout=ONLINE_SECONDS)
        middle = before + (datetime.now(UTC) - before) / 2
        said = parsedate_to_datetime(answer.headers["date"])
    except DeltatapeError as error:
        return Finding(check, State.ERROR, str(error), "correct [[collect]] in the settings")
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        text = f"not reachable: {str(error) or type(error).__name__}"
        return Finding(check, State.WARNING, text, "look at the network; offline work is not affected")
    except (KeyError, ValueError):
        return Finding(check, State.WARNING, "its answers have no time", "compare the clock by hand")
    # The header was cut to whole seconds: half of one is its mean.
    ahead = (middle - said).total_seconds() - 0.5
    return clock_finding(check, ahead, CLOCK_SECONDS)


def clock_finding(check: str, ahead: float, limit: float) -> Finding:
    """A clock that is `ahead` seconds of another, of which `limit` may be."""
    text = f"ours is {abs(ahead):.2f} s {'ahead' if ahead > 0 else 'behind'}"
    if abs(ahead) > limit:
        return Finding(check, State.WARNING, text, "synchronise this machine's clock, such as with chrony")
    return Finding(check, State.OK, text)
