"""One file an exchange, and the registry that finds them by id."""

from typing import cast

from msgspec import structs

from collector.exchanges import ccxt_unified
from collector.exchanges.adapter import Adapter
from collector.exchanges.binance import Binance
from collector.exchanges.binance_futures import BinanceUsdm
from collector.exchanges.bybit import Bybit
from collector.exchanges.coinbase import Coinbase
from collector.exchanges.htx import Htx
from collector.exchanges.kraken import Kraken
from collector.exchanges.kraken_v1 import KrakenV1
from collector.exchanges.okx import Okx
from market import WrongUse

_NATIVE: tuple[type[Adapter], ...] = (
    Binance,
    BinanceUsdm,
    Bybit,
    Coinbase,
    Htx,
    Kraken,
    KrakenV1,
    Okx,
)


def _simulated(speaks: type[Adapter]) -> type[Adapter]:
    facts = structs.replace(speaks.facts, title="the simulator on this machine", source="deltatape simulate")
    own = {
        "__doc__": f"The simulator on this machine: the protocol of {speaks.exchange} under another id.",
        "exchange": "simulated",
        "ws_url": "ws://127.0.0.1:8765",
        "rest_url": "http://127.0.0.1:8765",
        "facts": facts,
    }
    return cast("type[Adapter]", type("Simulated", (speaks,), own))


_SIMULATED = {known.exchange: _simulated(known) for known in _NATIVE if not known.is_replay_only}
EXCHANGES: dict[str, type[Adapter]] = {
    known.exchange: known for known in (*_NATIVE, _SIMULATED[Binance.exchange])
}
"""Every exchange by its id; the simulated one speaks as Binance does, unless asked otherwise."""


def simulated(protocol: str) -> Adapter:
    """A new adapter of the simulated exchange, which speaks the protocol of the exchange with this id.

    Raises:
        WrongUse: it does not.
    """
    if protocol not in _SIMULATED:
        raise WrongUse(
            f"the simulated exchange does not speak {protocol!r}: use one of {', '.join(sorted(_SIMULATED))}"
        )
    return _SIMULATED[protocol]()


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
