"""Strategies of one's own: Python files in a folder, each with classes that are rules.

A class is a strategy where it says what it reads and gives a score and a reason for each candle:

    class Breakout:
        cites = ("close", "high_20")
        def score(self, values): ...
        def reason(self, values): ...

It is known as `breakout`, or by its attribute `kind`. `timeframes`, `confirm` and `policy` may be set as
well, as in the configuration. Functions decorated with `signals.registry.indicator` are known by name then.
"""

from __future__ import annotations

import hashlib
import importlib.util
import re
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from market import Timeframe
from market.errors import WrongUse

if TYPE_CHECKING:
    from pathlib import Path
    from types import ModuleType

    from signals.rules import Rule

_MODULES = "deltatape_own"
_NEEDED = ("cites", "score", "reason")


@dataclass(frozen=True, slots=True)
class Own:
    """A strategy that somebody wrote.

    Attributes:
        rule: what it consists of.
        source: a hash of the file that it stands in: another text, another strategy.
        timeframes: of the candles that it is meant for; all where there are none.
        confirm: higher timeframes on which it is asked too.
        policy: how a backtest trades it.
    """

    rule: Rule
    source: str
    timeframes: tuple[Timeframe, ...]
    confirm: tuple[Timeframe, ...]
    policy: tuple[tuple[str, float], ...]


def load(folder: Path) -> dict[str, Own]:
    """The strategies in the files of `folder`, by name; none where it does not exist.

    Raises:
        WrongUse: a file cannot be imported, or two strategies have one name.
    """
    found: dict[str, Own] = {}
    for path in sorted(folder.glob("*.py")):
        for name, own in _strategies(path).items():
            if name in found:
                raise WrongUse(f"{path}: there is another strategy {name!r} in {folder}")
            found[name] = own
    return found


def _strategies(path: Path) -> dict[str, Own]:
    text = path.read_bytes()
    module = _module(path)
    found: dict[str, Own] = {}
    for made in vars(module).values():
        is_here = isinstance(made, type) and made.__module__ == module.__name__
        if is_here and all(hasattr(made, name) for name in _NEEDED):
            one = own(f"{path}: {made.__name__}", made, hashlib.sha256(text).hexdigest()[:16])
            found[one.rule.kind] = one
    return found


def own(where: str, strategy: Any, source: str) -> Own:
    """A class that is a strategy, or an object of one.

    Args:
        where: it stands, for what is wrong with it.
        strategy: the class or object.
        source: a hash of its text.

    Raises:
        WrongUse: something is missing, or it cannot be made without arguments.
    """
    made: Any = strategy if isinstance(strategy, type) else type(strategy)
    for name in _NEEDED:
        if not hasattr(strategy, name):
            raise WrongUse(f"{where} is no strategy: it lacks {name}; one has {', '.join(_NEEDED)}")
    if not hasattr(made, "kind"):
        made.kind = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", made.__name__).lower()
    try:
        rule: Rule = made() if made is strategy else strategy
        timeframes, confirm = (
            tuple(map(Timeframe.parse, getattr(made, name, ()))) for name in ("timeframes", "confirm")
        )
    except Exception as error:  # noqa: BLE001 - whatever somebody's code raises
        raise WrongUse(f"{where}: {error}") from None
    policy = tuple(dict(getattr(made, "policy", {})).items())
    return Own(rule, source, timeframes, confirm, policy)


def _module(path: Path) -> ModuleType:
    """The file as a module of its own; anew where its text has changed."""
    name = f"{_MODULES}.{path.stem}"
    known = sys.modules.get(name)
    if known is not None and getattr(known, "deltatape_text", None) == path.read_bytes():
        return known
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise WrongUse(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    # Where classes look themselves up, as dataclasses do.
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # noqa: BLE001 - whatever somebody's code raises
        del sys.modules[name]
        raise WrongUse(f"{path}: {type(error).__name__}: {error}") from None
    vars(module)["deltatape_text"] = path.read_bytes()
    return module
