"""What ran, in one line; free of numba, so that lists load fast."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

_FEW = 4


def label(config: Mapping[str, Any]) -> str:
    """The parameters of a setup's `config`, of a strategy with many those that are not the default."""
    parameters, policy = config["parameters"], config["policy"]
    shown = dict(parameters if len(parameters) <= _FEW else config["changed"])
    shown |= {name: policy[name] for name in ("stop", "target", "shorts") if policy[name]}
    if policy["fraction"] != 1:
        shown["fraction"] = policy["fraction"]
    return " ".join(f"{name}={value:g}" for name, value in shown.items())
