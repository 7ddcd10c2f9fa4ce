"""One file a protocol, and the registry that finds them by name."""

from collections.abc import Sequence

from collector.simulator.protocol import Protocol
from collector.simulator.protocols.binance import Binance
from collector.simulator.protocols.binance_futures import BinanceFutures
from collector.simulator.protocols.bybit import Bybit
from collector.simulator.protocols.coinbase import Coinbase
from collector.simulator.protocols.htx import Htx
from collector.simulator.protocols.kraken import Kraken
from collector.simulator.protocols.okx import Okx
from market import WrongUse

PROTOCOLS: dict[str, type[Protocol]] = {
    known.name: known for known in (Binance, BinanceFutures, Bybit, Coinbase, Htx, Kraken, Okx)
}
"""Every protocol by its name, which is the id of the exchange that speaks it."""


def speaking(protocol: str, symbols: Sequence[str], seed: int) -> Protocol:
    """Simulated markets behind the protocol with this name.

    Raises:
        WrongUse: there is none, or it does not list one of the symbols.
    """
    if protocol not in PROTOCOLS:
        raise WrongUse(
            f"the simulator does not speak {protocol!r}: use one of {', '.join(sorted(PROTOCOLS))}"
        )
    return PROTOCOLS[protocol](symbols, seed)
