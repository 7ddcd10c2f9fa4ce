"""What runs over stored candles trade with: what is asked for, else what exchange and instruments have."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from backtest.account import Account
from backtest.costs import RECORDED, latency_of, slippage_of
from backtest.fees import fees_of
from backtest.stored_feeds import market_type_of
from market.errors import WrongUse
from market.instrument import MarketType

if TYPE_CHECKING:
    from collections.abc import Mapping

    from backtest.stored_feeds import Facts, Wanted


@dataclass(frozen=True, slots=True)
class Costs:
    """What is asked for; None: as the exchange, the instruments or `Account` have it.

    Attributes:
        capital, fee_bps, maker_bps, slippage_bps, seed, participation, leverage: see `Account`.
        slippage, latency: in a word, see `backtest.costs`.
        market_type: by name.
        maintenance: see `Account`; else half of what a linear market with leverage asks at first.
    """

    capital: float = 10_000.0
    fee_bps: float | None = None
    maker_bps: float | None = None
    slippage: str | None = None
    slippage_bps: float | None = None
    latency: str | None = None
    seed: int = 0
    participation: float = 0.0
    market_type: str | None = None
    leverage: float = 1.0
    maintenance: float | None = None

    def account(self, exchange: str, facts: Mapping[str, Facts]) -> tuple[Account, str]:
        """The account that trades these instruments, and where its fees are from.

        Raises:
            WrongUse: something makes no sense, is said twice, or nobody knows the exchange's fees.
        """
        asked = None if self.market_type is None else market_kind(self.market_type)
        kind = market_type_of(facts, asked)
        fees, origin = self._fees(exchange, kind)
        plain: dict[str, Any] = {
            "capital": self.capital,
            "seed": self.seed,
            "participation": self.participation,
        }
        return Account(market_type=kind, **plain, **self._leverage(kind), **fees, **self._frictions()), origin

    def _fees(self, exchange: str, kind: MarketType) -> tuple[dict[str, Any], str]:
        rates = {"fee_bps": self.fee_bps, "maker_bps": self.maker_bps}
        given = {name: value for name, value in rates.items() if value is not None}
        if "fee_bps" in given:
            return given, "as given"
        known = fees_of(exchange, kind)
        whole = {"fee_bps": known.taker_bps, "maker_bps": known.maker_bps} | given
        return whole, known.source + (", maker as given" if given else "")

    def _leverage(self, kind: MarketType) -> dict[str, Any]:
        maintenance = self.maintenance
        if maintenance is None:
            maintenance = 0.5 / self.leverage if kind is MarketType.LINEAR and self.leverage > 1 else 0.0
        return {"leverage": self.leverage, "maintenance": maintenance}

    def _frictions(self) -> dict[str, Any]:
        """Slippage and latency."""
        said: dict[str, Any] = {} if self.slippage is None else dict(slippage_of(self.slippage))
        if "slippage_bps" in said and self.slippage_bps is not None:
            raise WrongUse("--slippage fixed:BPS and --slippage-bps say the same: leave one out")
        if self.slippage_bps is not None:
            said["slippage_bps"] = self.slippage_bps
        if self.latency is not None and self.latency != RECORDED:
            said |= latency_of(self.latency)
        return said


def market_kind(name: str) -> MarketType:
    """A market type by its name.

    Raises:
        WrongUse: there is none.
    """
    try:
        return MarketType(name)
    except ValueError:
        raise WrongUse(f"unknown market type {name!r}: use spot, margin or linear") from None


def sources_of(inputs: Wanted, facts: Mapping[str, Facts], origin: str) -> dict[str, Any]:
    """What the run is fed with, as plain data: a reproduction reads the same again."""
    steps = {
        symbol: {name: value for name, value in asdict(each.terms).items() if value is not None}
        for symbol, each in facts.items()
    }
    return {
        "inside": inputs.inside,
        "funding": inputs.funding,
        "fees": origin,
        "terms": {symbol: terms for symbol, terms in steps.items() if terms},
        "ends": {symbol: each.ends for symbol, each in facts.items() if each.ends is not None},
    }
