"""Streams of trades that are silent: the exchange is asked over REST what it traded meanwhile.

A stream whose subscription was lost looks like a market without trades, and so does one that was cut off
shortly before the market fell silent: no later trade comes whose id would show the hole.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from collector import history
from collector.exchanges.adapter import TradeRange
from collector.feed import Feed
from market import Trade, Unavailable

if TYPE_CHECKING:
    from collector.ccxt_feed import CcxtConnection
    from collector.connection import Connection

log = logging.getLogger(__name__)

FIRST_QUIET = 10.0
"""Seconds without a trade on a new connection, after which it is asked what was missed before."""
QUIET = 20.0
"""Seconds without a trade on one that gave some, after which it is asked at first."""
LONGEST_QUIET = 600.0
AGAIN = 5.0
"""Seconds after which one is asked again that had missed something."""
PAUSE = 1.0
"""Seconds between two questions, whatever the number of instruments."""
ON_ITS_WAY = 2.0
"""Seconds that a trade may take over the stream when REST shows it already."""
FIRST_RENEWAL = 30.0
"""Seconds between two renewals of a connection that leaves trades out, at first; doubled each time."""
LONGEST_RENEWAL = 1800.0
MAX_TRADES = 50_000
"""Trades that are taken at once."""

Take = Callable[[str, int, list[Trade]], Awaitable[bool]]
"""Puts trades of a symbol that follow an id onto the tape; False where the stream went on meanwhile."""


@dataclass(slots=True)
class _Silence:
    """How long a stream has been silent, in seconds of the event loop's clock."""

    last_id: int | None
    began: int
    """The first time that the stream has shown in it, in microseconds UTC; 0 before it does."""
    since: float
    due: float
    delay: float
    is_lost: bool = False
    """Whether trades were found that this connection should have given."""


class Lookout:
    """Asks for what silent streams have missed, one after another, ever more seldom while there is nothing.

    Only where ids are consecutive: they alone prove that what REST gives follows what the stream gave.

    Args:
        feed: its streams are watched.
        take: told of the trades that were missed.
    """

    def __init__(self, feed: Feed, take: Take) -> None:
        self._feed = feed
        self._take = take
        self._silences: dict[str, _Silence] = {}
        self._renewals: dict[int, tuple[float, float]] = {}

    async def run(self) -> None:
        """Watch until cancelled."""
        adapter = self._feed.session.adapter
        if not self._feed.rest.is_there or not adapter.has_consecutive_ids:
            return
        while True:
            await asyncio.sleep(PAUSE)
            symbol = self._most_overdue()
            if symbol is None:
                continue
            try:
                await self._look(symbol)
            except Unavailable as error:
                log.debug("%s cannot be asked for %s now: %s", adapter.exchange, symbol, error)
            except Exception:
                log.exception("%s %s could not be asked for", adapter.exchange, symbol)

    def _most_overdue(self) -> str | None:
        now = asyncio.get_running_loop().time()
        due = {symbol: self._silence(symbol, now).due for symbol in self._feed.symbols}
        first = min(due, key=lambda symbol: due[symbol])
        return first if due[first] <= now else None

    def _silence(self, symbol: str, now: float) -> _Silence:
        """Of a stream that spoke, or whose connection is new, it begins anew."""
        connection = self._connection(symbol)
        stream = self._feed.session.streams[symbol]
        silence = self._silences.get(symbol)
        is_new = silence is None or connection.opened_at > silence.since
        if silence is None or is_new or silence.last_id != stream.last_id or not connection.is_open:
            quiet = FIRST_QUIET if is_new else QUIET
            silence = _Silence(stream.last_id, stream.time, now, now + quiet, quiet)
            self._silences[symbol] = silence
        silence.began = silence.began or stream.time
        return silence

    def _connection(self, symbol: str) -> "Connection | CcxtConnection":
        return next(
            each
            for each in self._feed.connections
            if "trades" in each.line.streams and symbol in each.line.symbols
        )

    async def _look(self, symbol: str) -> None:
        loop, silence = asyncio.get_running_loop(), self._silences[symbol]
        silence.delay = min(2 * silence.delay, LONGEST_QUIET)
        silence.due = loop.time() + silence.delay
        stream = self._feed.session.streams[symbol]
        if stream.is_holding:
            stream.wait_no_longer()
            return
        if silence.last_id is None or stream.last_trade_time is None:
            await self._look_for_first(symbol, silence)
            return
        missed = await self._missed(symbol, silence.last_id, stream.last_trade_time)
        if not missed:
            return
        await asyncio.sleep(ON_ITS_WAY)
        if not await self._take(symbol, silence.last_id, missed):
            return
        log.info("%s: %d trades came over REST only", symbol, len(missed))
        if silence.is_lost:
            self._renew(symbol)
        silence.last_id = stream.last_id
        self._again(silence)

    async def _look_for_first(self, symbol: str, silence: _Silence) -> None:
        """Where a stream has never given a trade, REST only tells whether there were any meanwhile."""
        if await self._has_traded(symbol, silence.began):
            if silence.is_lost:
                self._renew(symbol)
            self._again(silence)

    async def _has_traded(self, symbol: str, since: int) -> bool:
        end = self._feed.session.streams[symbol].time
        asking = self._feed.session.adapter.trade_pages(TradeRange(symbol=symbol, begin=since, end=end))
        if asking is None or not 0 < since < end:
            return False
        async for page in history.pages(self._feed.rest, asking):
            if page.trades:
                return True
        return False

    def _again(self, silence: _Silence) -> None:
        """Something was missed: there may be more soon."""
        silence.is_lost, silence.delay = True, AGAIN
        silence.due = asyncio.get_running_loop().time() + AGAIN

    async def _missed(self, symbol: str, last_id: int, last_time: int) -> list[Trade]:
        """The trades that follow the last one, as far as none is left out."""
        end = max(self._feed.session.streams[symbol].time, self._feed.clock()) + 1
        wanted = TradeRange(symbol=symbol, begin=last_time, end=end, first_id=last_id + 1, last_id=None)
        asking = self._feed.session.adapter.trade_pages(wanted)
        if asking is None:
            return []
        found: dict[int, Trade] = {}
        async for page in history.pages(self._feed.rest, asking):
            found.update((trade.trade_seq, trade) for trade in page.trades)
            if len(found) >= MAX_TRADES:
                break
        missed: list[Trade] = []
        while trade := found.get(last_id + 1 + len(missed)):
            missed.append(trade)
        return missed

    def _renew(self, symbol: str) -> None:
        """Open another connection beside one that does not give all that it should."""
        now, connection = asyncio.get_running_loop().time(), self._connection(symbol)
        due, delay = self._renewals.get(id(connection), (0.0, FIRST_RENEWAL))
        if now >= due:
            exchange = self._feed.session.adapter.exchange
            log.warning("%s: trades of %s do not come: connecting anew", exchange, symbol)
            self._renewals[id(connection)] = (now + delay, min(2 * delay, LONGEST_RENEWAL))
            connection.renew()
