"""What a perpetual contract's longs pay its shorts, at the moment it is paid."""

from msgspec import Struct


class FundingRate(Struct, frozen=True, gc=False):
    """One payment of an instrument's funding.

    Attributes:
        symbol: ccxt unified symbol, such as BTC/USDT:USDT.
        timestamp: when it was paid, in microseconds UTC.
        rate: share of a position's worth that longs paid; below 0 shorts paid.
        mark_price: what a position was worth then, in quote units; None where the exchange does not say.
    """

    symbol: str
    timestamp: int
    rate: float
    mark_price: float | None
