"""What is traded, and under which names."""

from enum import StrEnum

from msgspec import Struct


class MarketType(StrEnum):
    """How an instrument is settled."""

    SPOT = "spot"
    MARGIN = "margin"
    LINEAR = "linear"
    INVERSE = "inverse"


class Instrument(Struct, frozen=True, kw_only=True):
    """One instrument of one exchange.

    `tick_size` and `lot_size` are decimal texts as the exchange gives them, None where it does not;
    times are microseconds UTC. `trade_ids_consecutive` says that each trade's id is the last one's plus one.
    """

    exchange: str
    symbol: str
    exchange_symbol: str
    base: str
    quote: str
    market_type: MarketType = MarketType.SPOT
    expiry_timestamp: int | None = None
    tick_size: str | None = None
    lot_size: str | None = None
    contract_size: str | None = None
    min_notional: str | None = None
    is_active: bool = True
    trade_ids_consecutive: bool = False
