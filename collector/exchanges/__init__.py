"""One file an exchange, and the registry that finds them by id."""

from collector.exchanges import ccxt_unified
from collector.exchanges.adapter import Adapter
from collector.exchanges.binance import Binance, Simulated
from collector.exchanges.binance_futures import BinanceUsdm
from collector.exchanges.bybit import Bybit
from collector.exchanges.coinbase import Coinbase
from collector.exchanges.htx import Htx
from collector.exchanges.kraken import Kraken
from collector.exchanges.kraken_v1 import KrakenV1
from collector.exchanges.okx import Okx
from market import WrongUse

EXCHANGES: dict[str, type[Adapter]] = {
    known.exchange: known
    for known in (
        Binance,
        BinanceUsdm,
        Bybit,
        Coinbase,
        Htx,
        Kraken,
        KrakenV1,
        Okx,
        Simulated,
    )
}
"""Every exchange by its id."""


def find(exchange: str) -> Adapter:
    """A new adapter of the exchange with this id; one that has no file here goes through ccxt.

    Raises:
        WrongUse: there is none.
    """
    if exchange in EXCHANGES:
        return EXCHANGES[exchange]()
    if ccxt_unified.knows(exchange):
        return ccxt_unified.unified(exchange)
    raise WrongUse(
        f"unknown exchange {exchange!r}: use one of {', '.join(sorted(EXCHANGES))}, "
        "or one of those that `deltatape exchanges --all` lists"
    )
