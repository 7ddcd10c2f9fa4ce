"""One trade, as it stands on the tape."""

from enum import StrEnum

from msgspec import Struct

FAR_AHEAD = 100_000
"""Ids between one trade and the next, about, that no exchange leaves out: they count from anew."""


class Side(StrEnum):
    """The aggressor: who took liquidity. BUY lifts the ask, SELL hits the bid."""

    BUY = "buy"
    SELL = "sell"


class Trade(Struct, frozen=True, gc=False):
    """One trade (or one aggregate of fills) of an instrument.

    Attributes:
        symbol: ccxt unified symbol, such as BTC/USDT.
        timestamp: the exchange's time in microseconds UTC, canonical for that exchange.
        trade_id: as the exchange says it; ``a<id>`` for an aggregate.
        trade_seq: orders the trades of one instrument that share a timestamp.
        price: in quote units.
        size: in base units (contracts for inverse instruments).
        side: the aggressor, None where the exchange does not say.
        fill_count: fills in it; 1 unless an aggregate.
    """

    symbol: str
    timestamp: int
    trade_id: str
    trade_seq: int
    price: float
    size: float
    side: Side | None
    fill_count: int = 1

    @property
    def order(self) -> tuple[int, int]:
        """Where it stands in tape order."""
        return (self.timestamp, self.trade_seq)
