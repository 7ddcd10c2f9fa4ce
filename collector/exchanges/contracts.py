"""Names of futures contracts as ccxt writes them: BTC/USDT:USDT, and BTC/USDT:USDT-210924 with a delivery."""

import re

from msgspec import Struct

from market import Instrument, MarketType

_ASSET = r"[^\W_a-z]+"
_SYMBOL = re.compile(rf"({_ASSET})/({_ASSET}):({_ASSET})(?:-([0-9]{{6}}))?")


class Contract(Struct, frozen=True):
    """What a unified symbol of a future says; `delivery` is yymmdd, empty for a perpetual."""

    base: str
    quote: str
    settle: str
    delivery: str = ""

    @property
    def symbol(self) -> str:
        """The unified symbol."""
        name = f"{self.base}/{self.quote}:{self.settle}"
        return f"{name}-{self.delivery}" if self.delivery else name


def contract_of(symbol: str) -> Contract | None:
    """What a unified symbol says; None if it is none of a future."""
    found = _SYMBOL.fullmatch(symbol)
    if found is None or symbol != symbol.upper():
        return None
    base, quote, settle, delivery = found.groups()
    return Contract(base, quote, settle, delivery or "")


def linear(
    exchange: str, exchange_symbol: str, contract: Contract, *, has_consecutive_ids: bool
) -> Instrument:
    """A contract that is settled in its quote and sized in its base, of which no more is known."""
    return Instrument(
        exchange=exchange,
        symbol=contract.symbol,
        exchange_symbol=exchange_symbol,
        base=contract.base,
        quote=contract.quote,
        market_type=MarketType.LINEAR,
        contract_size="1",
        trade_ids_consecutive=has_consecutive_ids,
    )
