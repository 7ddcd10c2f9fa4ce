"""Healing: every open hole is asked for over REST, and filled, until none is left that can be filled."""

import asyncio
import logging
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Literal

import psycopg

from collector import history
from collector.exchanges.adapter import Adapter, TradePage, TradeRange
from collector.rest import Rest
from market import DAY, Trade, Unavailable
from storage import database, healing, ledger
from storage.healing import OVERLAP, Part
from storage.ledger import GapRow

log = logging.getLogger(__name__)

HEAL_MAX_AGE = DAY
"""Microseconds: a live collector leaves older holes to `backfill`."""
TRADES_A_FILL = 50_000
"""Trades that one transaction fills a hole with, at most."""
FIRST_RETRY = 1.0
LAST_RETRY = 300.0
LOOK_SECONDS = 30.0
"""How often holes are looked for that nobody told of."""

Outcome = Literal["healed", "empty", "unhealable", "closed"]
"""What became of a hole; `closed`: somebody else closed it first."""


@dataclass(slots=True)
class _Found:
    """What the pages have shown of a hole so far: an unbroken part of it, and its trades."""

    gap: GapRow
    first: int = 0
    last: int = -1
    begin: int = 0
    end: int = 0
    trades: list[Trade] = field(default_factory=list)

    @property
    def ids(self) -> tuple[int, int] | None:
        gap = self.gap
        return None if gap.from_id is None or gap.to_id is None else (int(gap.from_id), int(gap.to_id))

    def add(self, page: TradePage) -> None:
        is_first = self.end == 0
        self.begin = page.from_timestamp if is_first else min(self.begin, page.from_timestamp)
        self.end = page.to_timestamp if is_first else max(self.end, page.to_timestamp)
        if page.first_id is not None and page.last_id is not None and page.first_id <= page.last_id:
            is_first = self.last < self.first
            self.first = page.first_id if is_first else min(self.first, page.first_id)
            self.last = page.last_id if is_first else max(self.last, page.last_id)
        self.trades += [trade for trade in page.trades if self._belongs(trade)]

    def _belongs(self, trade: Trade) -> bool:
        if self.ids is not None:
            return self.ids[0] <= trade.trade_seq <= self.ids[1]
        return self.gap.from_timestamp - OVERLAP <= trade.timestamp <= self.gap.to_timestamp

    @property
    def is_whole(self) -> bool:
        if self.ids is not None:
            return self.first <= self.ids[0] and self.ids[1] <= self.last
        return self.end > 0 and self.begin <= self.gap.from_timestamp and self.gap.to_timestamp <= self.end

    def part(self) -> Part | None:
        """The part of the hole that is known; None where nothing is, or it touches neither of its ends."""
        gap = self.gap
        if self.ids is None:
            begin, end = max(self.begin, gap.from_timestamp), min(self.end, gap.to_timestamp)
            touches = begin == gap.from_timestamp or end == gap.to_timestamp
            is_empty = self.end == 0 or (begin >= end and gap.from_timestamp < gap.to_timestamp)
            return None if is_empty or not touches else Part(begin, max(begin, end))
        first, last = max(self.first, self.ids[0]), min(self.last, self.ids[1])
        if first > last or (first > self.ids[0] and last < self.ids[1]):
            return None
        times = [trade.timestamp for trade in self.trades]
        begin, end = gap.from_timestamp, gap.to_timestamp
        if first > self.ids[0]:
            begin = min(times, default=end)
        if last < self.ids[1]:
            end = max(times, default=begin) + 1
        return Part(begin, max(begin, end), first, last)


async def heal(gap: GapRow, adapter: Adapter, rest: Rest, url: str) -> Outcome:
    """Fill a hole of a stream of trades with what the exchange gives over REST.

    Args:
        gap: an open hole.
        adapter: of its exchange.
        rest: of its exchange.
        url: the database.

    Raises:
        Unavailable: the exchange or the database does not answer now; what was found so far is stored.
    """
    found = _Found(gap)
    ids = found.ids
    asking = adapter.trade_pages(
        TradeRange(
            symbol=gap.symbol,
            begin=gap.from_timestamp if ids else gap.from_timestamp - OVERLAP,
            # The trade after the hole, too: it shows where ids have begun anew.
            end=gap.to_timestamp + 1,
            first_id=ids[0] if ids else None,
            last_id=ids[1] if ids else None,
        )
    )
    if asking is None:
        await asyncio.to_thread(_give_up, url, gap, f"{gap.exchange} gives no past trades over REST")
        return "unhealable"
    async for page in history.pages(rest, asking):
        found.add(page)
        if found.is_whole:
            break
        if ids and len(found.trades) >= TRADES_A_FILL and (part := found.part()):
            if await asyncio.to_thread(_fill, url, gap, part, found.trades) is None:
                return "closed"
            remaining = await asyncio.to_thread(_reload, url, gap)
            if remaining is None:
                return "healed"
            gap = remaining
            found = _Found(gap, found.first, found.last, found.begin, found.end)
    return await _conclude(found, url)


async def _conclude(found: _Found, url: str) -> Outcome:
    """Write what was found; what the exchange has no more is given up."""
    gap, part = found.gap, found.part()
    filled: int | None = 0
    if part is not None:
        filled = await asyncio.to_thread(_fill, url, gap, part, found.trades, _note(found, part))
        if filled is None:
            return "closed"
    if found.is_whole:
        return "healed" if filled else "empty"
    remaining = await asyncio.to_thread(_reload, url, gap)
    if remaining is not None:
        reason = f"{gap.exchange} gives these trades no more over REST"
        await asyncio.to_thread(_give_up, url, remaining, reason)
    return "unhealable"


def _note(found: _Found, part: Part) -> str | None:
    if part.first_id is None or part.last_id is None:
        return None
    asked = part.last_id - part.first_id + 1
    given = len({t.trade_seq for t in found.trades if part.first_id <= t.trade_seq <= part.last_id})
    return None if given == asked else f"{asked - given} of {asked} ids were never given to a trade"


# The database, each in a connection of its own: holes are rare


def _fill(url: str, gap: GapRow, part: Part, trades: list[Trade], note: str | None = None) -> int | None:
    with database.connect(url, application_name=f"deltatape heal {gap.exchange}") as connection:
        return healing.fill(connection, gap, part, trades, note=note)


def _give_up(url: str, gap: GapRow, note: str) -> None:
    with database.connect(url, application_name=f"deltatape heal {gap.exchange}") as connection:
        healing.give_up(connection, gap, note, is_halt=gap.cause == "id_reset")


def _reload(url: str, gap: GapRow) -> GapRow | None:
    with database.connect(url) as connection:
        found = open_gaps(connection, gap.exchange, [gap.symbol])
    return next((each for each in found if each.id == gap.id), None)


def open_gaps(
    connection: database.Connection, exchange: str | None, symbols: Collection[str] | None = None
) -> list[GapRow]:
    """The open holes in streams of trades, oldest first."""
    found = ledger.list_gaps(connection, exchange, None, ("suspected", "confirmed"))
    return [g for g in found if g.stream == "trades" and (symbols is None or g.symbol in symbols)]


class Healer:
    """Heals the holes of a collector's instruments as they come.

    Args:
        adapter: of the exchange.
        rest: of the exchange.
        url: the database.
        newest: the newest exchange time of a symbol, microseconds UTC: holes far older are left alone.
        symbols: the instruments.
    """

    def __init__(
        self,
        adapter: Adapter,
        rest: Rest,
        url: str,
        symbols: Collection[str],
        newest: Callable[[str], int],
    ) -> None:
        self.healing: set[str] = set()
        """Instruments of which a hole is being filled now."""
        self.healed = 0
        self._adapter, self._rest, self._url = adapter, rest, url
        self._symbols, self._newest = symbols, newest
        self._wake = asyncio.Event()
        self._retries: dict[int, tuple[float, float]] = {}

    def wake(self) -> None:
        """There is a new hole."""
        self._wake.set()

    async def run(self) -> None:
        """Heal until cancelled."""
        if not self._rest.is_there:
            return
        while True:
            self._wake.clear()
            pause = LOOK_SECONDS
            try:
                for gap in await asyncio.to_thread(self._open):
                    pause = min(pause, await self._try(gap))
            except (Unavailable, psycopg.Error) as error:
                log.debug("holes cannot be looked for now: %s", error)
            except Exception:
                # One hole that cannot be handled must not end the healing of all others.
                log.exception("a hole of %s could not be handled", self._adapter.exchange)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), pause)

    def _open(self) -> list[GapRow]:
        with database.connect(
            self._url, application_name=f"deltatape heal {self._adapter.exchange}"
        ) as found:
            gaps = open_gaps(found, self._adapter.exchange, self._symbols)
        return [gap for gap in gaps if gap.to_timestamp > self._newest(gap.symbol) - HEAL_MAX_AGE]

    async def _try(self, gap: GapRow) -> float:
        """Heal a hole unless its time has not come; the seconds until something is to be done for it."""
        loop = asyncio.get_running_loop()
        due, delay = self._retries.get(gap.id, (0.0, FIRST_RETRY))
        if loop.time() < due:
            return due - loop.time()
        self.healing.add(gap.symbol)
        try:
            outcome = await heal(gap, self._adapter, self._rest, self._url)
        except (Unavailable, psycopg.Error) as error:
            log.warning("cannot heal %s %s yet: %s", gap.exchange, gap.symbol, error)
            self._retries[gap.id] = (loop.time() + delay, min(2 * delay, LAST_RETRY))
            return delay
        finally:
            self.healing.discard(gap.symbol)
        self._retries.pop(gap.id, None)
        self.healed += outcome == "healed"
        log.info("hole of %s %s: %s", gap.exchange, gap.symbol, outcome)
        return LOOK_SECONDS
