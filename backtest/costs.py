"""How people say slippage and latency: in a word each."""

from __future__ import annotations

from backtest.state import QUEUES
from market.errors import WrongUse

LATENCIES = ("feed", "order", "response")
RECORDED = "recorded"


def slippage_of(text: str) -> dict[str, float | str]:
    """`fixed:2` (basis points), `spread` or `walk`, as fields of `backtest.account.Account`.

    Raises:
        WrongUse: it is written otherwise.
    """
    kind, colon, bps = text.strip().partition(":")
    if kind == "queue":
        raise needs_changes()
    try:
        if kind == "fixed" and colon:
            return {"slippage": kind, "slippage_bps": float(bps)}
    except ValueError:
        pass
    if text.strip() in ("fixed", "spread", "walk"):
        return {"slippage": kind}
    raise WrongUse(f"slippage is fixed:BPS (such as fixed:2), spread or walk, not {text!r}")


def queue_of(text: str) -> str:
    """`none`, `pessimistic` or `pro-rata`, as `Account` has it.

    Raises:
        WrongUse: it is written otherwise.
    """
    if (named := text.strip().replace("-", "_")) in QUEUES:
        return named
    raise WrongUse(f"queue is none, pessimistic or pro-rata, not {text!r}")


def needs_changes() -> WrongUse:
    """That a place in the queue is asked for where nobody can tell one."""
    return WrongUse(
        "a place in the queue is estimated from every change of the order book, which candles, trades and one"
        " snapshot a second are not: give a recording (backtest run --recording FILE, dt.recording; it is"
        " made by deltatape record), or leave queue out: limit orders fill on trade-through"
    )


def latency_of(text: str) -> dict[str, float]:
    """Milliseconds: one number for each of feed, order and response, or `feed=20,order=50`, as of `Account`.

    Raises:
        WrongUse: it is written otherwise.
    """
    parts = [part.partition("=") for part in text.split(",")]
    named = {name.strip(): value for name, equals, value in parts if equals}
    try:
        if not named and len(parts) == 1:
            return {f"{name}_ms": float(text) for name in LATENCIES}
        if len(named) == len(parts) and named.keys() <= set(LATENCIES):
            return {f"{name}_ms": float(value) for name, value in named.items()}
    except ValueError:
        pass
    raise WrongUse(
        f"latency is milliseconds (50), or those of each way (feed=20,order=50,response=20), or {RECORDED},"
        f" not {text!r}"
    )
