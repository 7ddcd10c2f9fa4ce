"""The account that a backtest trades: its capital, what trading costs, and what its market allows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from backtest.state import STATE
from market.decimals import scaled
from market.errors import WrongUse
from market.instrument import MarketType

MOST_CAPITAL = 1e15
"""In quote units: what it may grow to must fit into the table, 1e18."""
_TRADED = (MarketType.SPOT, MarketType.MARGIN, MarketType.LINEAR)


@dataclass(frozen=True, slots=True)
class Account:
    """Capital and costs; a basis point is a hundredth of a percent of the traded amount.

    Attributes:
        capital: at the start, in quote units.
        fee_bps: the taker's fee.
        maker_bps: the maker's fee; the taker's where None.
        slippage_bps: how much worse than the market a market order or a stop fills.
        lot: quantities are rounded down to multiples of it; 0 leaves them as they are.
        market_type: spot (long only), margin (shorts, whole price paid) or linear (profit settled);
            no leverage: a position is never larger than the equity.
    """

    capital: float = 10_000.0
    fee_bps: float = 10.0
    maker_bps: float | None = None
    slippage_bps: float = 1.0
    lot: float = 1e-8
    market_type: MarketType = MarketType.SPOT

    def __post_init__(self) -> None:
        if not 0 < self.capital <= MOST_CAPITAL:
            raise WrongUse(f"the capital must be above 0 and at most {MOST_CAPITAL:g}, not {self.capital:g}")
        for name, rate in (
            ("fee", self.fee_bps),
            ("maker fee", self.maker_rate * 1e4),
            ("slippage", self.slippage_bps),
        ):
            if not 0 <= rate < 10_000:
                raise WrongUse(f"the {name} must be at least 0 and below 10000 basis points, not {rate:g}")
        if not 0 <= self.lot < float("inf"):
            raise WrongUse(f"the lot must be at least 0, not {self.lot:g}")
        if self.market_type not in _TRADED:
            raise WrongUse(f"{self.market_type} markets cannot be backtested yet: use {', '.join(_TRADED)}")

    @property
    def maker_rate(self) -> float:
        """The maker's fee as a fraction of the amount."""
        return (self.fee_bps if self.maker_bps is None else self.maker_bps) / 1e4

    def state(self) -> npt.NDArray[np.void]:
        """A fresh state for the kernel: one record, flat, before any event."""
        state = np.zeros(1, dtype=STATE)
        state["initial"] = state["cash"] = self.capital
        state["taker"] = self.fee_bps / 1e4
        state["maker"] = self.maker_rate
        state["slippage"] = self.slippage_bps / 1e4
        digits, scale = scaled(float(self.lot))
        state["lot_digits"], state["lot_scale"] = digits, 10**scale
        state["linear"] = self.market_type is MarketType.LINEAR
        state["shorts"] = self.market_type is not MarketType.SPOT
        return state
