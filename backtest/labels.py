"""What ran, in one line; free of numba, so that lists load fast."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

_FEW = 4
_SHORTEST_DAYS = 30


def label(config: Mapping[str, Any]) -> str:
    """The parameters of a setup's `config`, of a strategy with many those that are not the default."""
    parameters, policy = config["parameters"], config["policy"]
    shown = dict(parameters if len(parameters) <= _FEW else config["changed"])
    shown |= {name: policy[name] for name in ("stop", "target", "shorts") if policy[name]}
    if policy["fraction"] != 1:
        shown["fraction"] = policy["fraction"]
    return " ".join(f"{name}={value:g}" for name, value in shown.items())


def annual(percent: float, volatility: float, days: int) -> str:
    """Annual return and volatility in percent; a few days are not blown up to a year."""
    if days < _SHORTEST_DAYS:
        return f"not said of {days} {'day' if days == 1 else 'days'}"
    return f"{percent:+.4g} % (volatility {volatility:.4g} %)"
