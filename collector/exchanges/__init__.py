"""One file an exchange, and the registry that finds them by id."""

from collector.exchanges.adapter import Adapter
from collector.exchanges.binance import Binance, Simulated
from collector.exchanges.coinbase import Coinbase
from collector.exchanges.kraken import Kraken
from collector.exchanges.kraken_v1 import KrakenV1
from market import WrongUse

EXCHANGES: dict[str, type[Adapter]] = {
    known.exchange: known for known in (Binance, Coinbase, Kraken, KrakenV1, Simulated)
}
"""Every exchange by its id."""


def find(exchange: str) -> Adapter:
    """A new adapter of the exchange with this id.

    Raises:
        WrongUse: there is none.
    """
    if exchange not in EXCHANGES:
        raise WrongUse(f"unknown exchange {exchange!r}: use one of {', '.join(sorted(EXCHANGES))}")
    return EXCHANGES[exchange]()
