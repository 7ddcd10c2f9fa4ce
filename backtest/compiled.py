"""How the loops of this package are compiled, and where their machine code is kept.

Without fastmath, which would reorder sums; with numpy's division (x / 0 is inf); without the
interpreter's lock, so that a sweep runs on threads. numba notices an edit of the file that holds a
function, but not of the functions and constants which that one takes from other files: so the folder
carries a hash of every source file that machine code is made of, and an edited kernel is never served from
a stale cache.
"""

import os
import re
from collections.abc import Callable, Iterable
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeVar, cast

import numba
from numba import types
from numba.core import config
from numba.core.caching import CompileResultCacheImpl

from market.compiled import DiskCache

_PACKAGE = Path(__file__).parent
_COMPILES = re.compile(rb"^@compiled\(", re.MULTILINE)
_IMPORTS = re.compile(rb"^from (backtest|market)\.(\w+) import", re.MULTILINE)

Function = TypeVar("Function", bound=Callable[..., Any])


def compiled(
    signature: object = None, *, inline: bool = False, allocates: bool = False
) -> Callable[[Function], Function]:
    """A decorator that turns a function into machine code, kept on disk where a folder allows it.

    Args:
        signature: the numba signature, compiled at once; without one, compiled when first called.
            A function that takes another one needs it: a signature with a function type is the same
            in every process, one inferred from the function itself never hits the disk cache.
        inline: whether the optimiser must put it into its callers: for what runs at every event.
        allocates: whether it makes arrays. One that does not counts no references to those that it is
            given: its callers hold them.
    """

    def decorate(function: Function) -> Function:
        options: dict[str, Any] = {
            "nogil": True,
            "error_model": "numpy",
            "forceinline": inline,
            "_nrt": allocates,
            "no_cfunc_wrapper": signature is None,
        }
        dispatcher = cast("Any", numba.njit)(**options)(function)
        if folder := cache_folder():
            dispatcher._cache = _Cache(function, folder)
        if signature is None:
            dispatcher.get_call_template = _of_any_value(dispatcher.get_call_template)
        else:
            dispatcher.compile(signature)
            dispatcher.disable_compile()
        return cast("Function", dispatcher)

    return decorate


class _Payload(CompileResultCacheImpl):
    """What numba keeps of one function, without the environments that hold nothing.

    One is named for each function inside, and loading it imports the module that the function is from: those
    are numba's own of arrays and numbers, which take as long as all the machine code of a run.
    """

    def reduce(self, compiled_result: Any) -> Any:
        """What is written to disk."""
        *rest, environments = super().reduce(compiled_result)  # type: ignore[no-untyped-call]
        return *rest, tuple(each for each in environments if each.consts)


class _Files(DiskCache):
    """numba's cache of one function, in a folder of ours."""

    _impl_class = _Payload  # type: ignore[assignment]

    def __init__(self, function: Callable[..., Any], folder: Path) -> None:
        before = vars(config)["CACHE_DIR"]
        # numba reads its setting here; whoever else caches keeps their own folder.
        vars(config)["CACHE_DIR"] = str(folder)
        try:
            super().__init__(function)  # type: ignore[no-untyped-call]
        finally:
            vars(config)["CACHE_DIR"] = before


class _Cache:
    """The cache as numba's dispatcher uses it, opened once its function is called: most never are."""

    def __init__(self, function: Callable[..., Any], folder: Path) -> None:
        self._open = cache(lambda: _Files(function, folder))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._open(), name)


def _of_any_value(find: Callable[..., Any]) -> Callable[..., Any]:
    """Look up a call by its arguments' types alone: numba would compile a version for each constant."""

    def found(arguments: tuple[Any, ...], named: dict[str, Any]) -> Any:
        plain: Callable[[Any], Any] = types.unliteral
        return find(tuple(map(plain, arguments)), {name: plain(kind) for name, kind in named.items()})

    return found


@cache
def cache_folder() -> Path | None:
    """The first folder that can be written: NUMBA_CACHE_DIR's, the home's, the package's, the user's."""
    name = f"backtest-{_hash(_compiled_sources())[:16]}"
    for base in _bases():
        folder = base / name
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError:
            continue
        if os.access(folder, os.W_OK | os.X_OK):
            return folder
    return None


@cache
def source_hash() -> str:
    """SHA-256 of this package's source files, hexadecimal."""
    return _hash(_PACKAGE.glob("*.py"))


def _hash(files: Iterable[Path]) -> str:
    digest = sha256()
    for file in sorted(files):
        digest.update(file.name.encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()


def _compiled_sources() -> set[Path]:
    """The files that hold compiled functions, and those that they take functions and constants from."""
    waiting = [file for file in _PACKAGE.glob("*.py") if _COMPILES.search(file.read_bytes())]
    found = set(waiting)
    while waiting:
        for package, module in _IMPORTS.findall(waiting.pop().read_bytes()):
            file = _PACKAGE.parent / package.decode() / f"{module.decode()}.py"
            if file not in found and file.exists():
                found.add(file)
                waiting.append(file)
    return found


def _bases() -> list[Path]:
    home, cache = os.environ.get("DELTATAPE_HOME"), os.environ.get("XDG_CACHE_HOME")
    user = os.environ.get("HOME")
    return [
        *([Path(named)] if (named := os.environ.get("NUMBA_CACHE_DIR")) else []),
        *([Path(home).expanduser() / "cache"] if home else []),
        Path(__file__).parent / "__pycache__",
        *([Path(cache) / "deltatape"] if cache else []),
        *([Path(user) / ".cache" / "deltatape"] if user else []),
    ]
