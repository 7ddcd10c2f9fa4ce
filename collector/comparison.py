"""Where ids prove nothing: what REST gives of the newest minutes is compared with what the connection gave.

An exchange that does not number its trades one by one may leave one out of an unbroken stream, and nothing
that comes after it shows that.
"""

import asyncio
import logging
from collections.abc import Callable, Collection

import psycopg

from collector import history
from collector.exchanges.adapter import Adapter, TradeRange
from collector.rest import Rest
from market import Trade, Unavailable
from storage import database, healing
from storage.healing import OVERLAP

log = logging.getLogger(__name__)

EVERY = 60.0
"""Seconds between two comparisons of one instrument."""
PAUSE = 1.0
"""Seconds between two questions, whatever the number of instruments."""
COMPARED = 300_000_000
"""Microseconds of the newest trades that are asked for."""


class Comparison:
    """Asks for the newest trades of one instrument after another, for ever.

    Args:
        adapter: of the exchange.
        rest: of the exchange.
        url: the database.
        symbols: the instruments.
        newest: the newest exchange time of a symbol, microseconds UTC; 0 before the first.
    """

    def __init__(
        self,
        adapter: Adapter,
        rest: Rest,
        url: str,
        symbols: Collection[str],
        newest: Callable[[str], int],
    ) -> None:
        self._adapter, self._rest, self._url = adapter, rest, url
        self._symbols, self._newest = symbols, newest

    async def run(self) -> None:
        """Compare until cancelled; where ids are consecutive nothing is to be done."""
        if self._adapter.has_consecutive_ids or not self._symbols:
            return
        while True:
            for symbol in self._symbols:
                await asyncio.sleep(max(EVERY / len(self._symbols), PAUSE))
                try:
                    lost = await self._compare(symbol)
                except (Unavailable, psycopg.Error) as error:
                    log.debug("%s %s cannot be compared now: %s", self._adapter.exchange, symbol, error)
                except Exception:
                    log.exception("%s %s could not be compared", self._adapter.exchange, symbol)
                else:
                    if lost:
                        log.warning("%s %s: %d trades came over REST only", self._rest.exchange, symbol, lost)

    async def _compare(self, symbol: str) -> int:
        """How many trades were added that the connection did not give."""
        # What has just happened may still be on its way over the connection.
        until = self._newest(symbol) - OVERLAP
        begin = until - COMPARED
        asking = self._adapter.trade_pages(TradeRange(symbol=symbol, begin=begin, end=until))
        if asking is None or until <= 0:
            return 0
        lost = 0
        async for page in history.pages(self._rest, asking):
            first, end = max(page.from_timestamp, begin), min(page.to_timestamp, until)
            if first < end:
                lost += await asyncio.to_thread(self._add, symbol, first, end, page.trades)
        return lost

    def _add(self, symbol: str, begin: int, end: int, trades: list[Trade]) -> int:
        name = f"deltatape heal {self._adapter.exchange}"
        with database.connect(self._url, application_name=name) as connection:
            return healing.add_lost(connection, self._adapter.exchange, symbol, begin, end, trades)
