"""Healing: every open hole is asked for over REST, and filled, until none is left that can be filled."""

import asyncio
import logging
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Literal

import psycopg

from collector import history
from collector.comparison import Comparison
from collector.exchanges.adapter import Adapter, TradePage, TradeRange
from collector.heal_together import groups, heal_together
from collector.rest import Rest
from collector.telling import tell_given_up
from market import DAY, Trade, Unavailable, WrongUse
from storage import database, healing
from storage.healing import OVERLAP, Part
from storage.holes import OPEN, Hole, find_hole, list_holes
from storage.routes import SILENT, Routes

log = logging.getLogger(__name__)

HEAL_MAX_AGE = DAY
"""Microseconds: a live collector leaves older holes to `backfill`."""
TRADES_A_FILL = 50_000
"""Trades that one transaction fills a hole with, at most."""
FIRST_RETRY = 1.0
LAST_RETRY = 30.0
LOOK_SECONDS = 30.0
"""How often holes are looked for that nobody told of."""
PATIENCE = 15.0
"""Seconds for which an exchange that does not show a trade over REST may only be behind with it."""
LAST_ASKED_AGAIN = 3600.0
"""Seconds between the last two times that a trade is asked for that the exchange did not give."""

Outcome = Literal["healed", "lacking", "empty", "unhealable", "closed", "doubtful"]
"""What became of a hole; `lacking`: healed, but for ids that the exchange gives no trade for; `closed`:
somebody else closed it first; `doubtful`: the exchange has not shown all of it, and may only be behind."""


@dataclass(slots=True)
class _Found:
    """What the pages have shown of a hole so far: an unbroken part of it, and its trades."""

    gap: Hole
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
    def lacks(self) -> int | None:
        """The first id of the known part that no trade was given for."""
        if self.ids is None or self.last < self.first:
            return None
        wanted = range(max(self.first, self.ids[0]), min(self.last, self.ids[1]) + 1)
        given = {trade.trade_seq for trade in self.trades}
        return None if len(given) >= len(wanted) else next((n for n in wanted if n not in given), None)

    def end_before(self, number: int) -> None:
        """Believe nothing from this id on."""
        self.last = number - 1
        self.trades = [trade for trade in self.trades if trade.trade_seq < number]

    @property
    def shows_its_end(self) -> bool:
        """Whether what the exchange gave reaches to the trade that came after the hole."""
        if self.ids is not None:
            return self.is_whole
        return any(trade.timestamp == self.gap.to_timestamp for trade in self.trades)

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
            begin = max(min(times, default=end), begin)
        if last < self.ids[1]:
            # What comes after the hole may have lower ids than its last one, where that one is false.
            end = min(max(times, default=begin) + 1, end)
        return Part(begin, max(begin, end), first, last)


async def heal(
    gap: Hole,
    adapter: Adapter,
    rest: Rest,
    url: str,
    *,
    is_final: bool = True,
    is_again: bool = False,
    routes: Routes = SILENT,
) -> Outcome:
    """Fill a hole of a stream of trades with what the exchange gives over REST.

    Args:
        gap: an open hole.
        adapter: of its exchange.
        rest: of its exchange.
        url: the database.
        is_final: whether to believe that what is not given now never will be; else that part stays open.
        is_again: the hole was closed for want of trades: only what there is now is added.
        routes: where it is told of a hole that nobody can fill.

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
        await asyncio.to_thread(_give_up, url, gap, f"{gap.exchange} gives no past trades over REST", routes)
        return "unhealable"
    async for page in history.pages(rest, asking):
        found.add(page)
        if not is_final and (lacking := found.lacks) is not None:
            found.end_before(lacking)
            break
        if found.is_whole:
            break
        if is_again:
            continue
        if ids and len(found.trades) >= TRADES_A_FILL and (part := found.part()):
            if await asyncio.to_thread(_fill, url, gap, part, found.trades) is None:
                return "closed"
            remaining = await asyncio.to_thread(_reload, url, gap)
            if remaining is None:
                return "healed"
            gap = remaining
            found = _Found(gap, found.first, found.last, found.begin, found.end)
    if is_again:
        return await _add(found, url)
    if not is_final and not found.ids and not found.shows_its_end:
        return "doubtful"
    return await _conclude(found, url, routes, is_final=is_final)


async def _add(found: _Found, url: str) -> Outcome:
    """Write what there is of a hole that was closed without it."""
    part = found.part()
    if part is None or not found.trades:
        return "unhealable"
    added = await asyncio.to_thread(_fill_closed, url, found.gap, part, found.trades)
    if found.is_whole and found.lacks is None:
        return "healed"
    return "lacking" if added and found.is_whole else "unhealable"


async def _conclude(found: _Found, url: str, routes: Routes, *, is_final: bool) -> Outcome:
    """Write what was found; what the exchange has no more is given up, once that is certain."""
    gap, part = found.gap, found.part()
    filled: int | None = 0
    if part is not None:
        filled = await asyncio.to_thread(_fill, url, gap, part, found.trades, _note(found, part))
        if filled is None:
            return "closed"
    if found.is_whole:
        if found.lacks is not None:
            return "lacking"
        return "healed" if filled else "empty"
    if not is_final:
        return "doubtful"
    remaining = await asyncio.to_thread(_reload, url, gap)
    if remaining is not None:
        reason = f"{gap.exchange} gives these trades no more over REST"
        await asyncio.to_thread(_give_up, url, remaining, reason, routes)
    return "unhealable"


def _note(found: _Found, part: Part) -> str | None:
    if part.first_id is None or part.last_id is None:
        return None
    asked = part.last_id - part.first_id + 1
    given = len({t.trade_seq for t in found.trades if part.first_id <= t.trade_seq <= part.last_id})
    return None if given == asked else f"{asked - given} of {asked} ids were never given to a trade"


# The database, each in a connection of its own: holes are rare


def _fill(url: str, gap: Hole, part: Part, trades: list[Trade], note: str | None = None) -> int | None:
    with database.connect(url, application_name=f"deltatape heal {gap.exchange}") as connection:
        return healing.fill(connection, gap, part, trades, note=note)


def _fill_closed(url: str, gap: Hole, part: Part, trades: list[Trade]) -> int:
    with database.connect(url, application_name=f"deltatape heal {gap.exchange}") as connection:
        return healing.fill_closed(connection, gap, part, trades)


def _give_up(url: str, gap: Hole, note: str, routes: Routes) -> None:
    with database.connect(url, application_name=f"deltatape heal {gap.exchange}") as connection:
        healing.give_up(connection, gap, note, is_halt=gap.cause == "id_reset")
        if gap.cause != "id_reset":
            tell_given_up(connection, routes, gap, note)


def _closed(url: str, gap: Hole) -> Hole | None:
    """The hole as it was closed, maybe smaller than it was."""
    found = _again(url, gap)
    return found if found is not None and not found.is_open else None


def _reload(url: str, gap: Hole) -> Hole | None:
    """The hole as it stands, if it is still open."""
    found = _again(url, gap)
    return found if found is not None and found.is_open else None


def _again(url: str, gap: Hole) -> Hole | None:
    """The hole as it stands; None where it proved to be none."""
    with database.connect(url) as connection, suppress(WrongUse):
        return find_hole(connection, gap.id)
    return None


def open_gaps(
    connection: database.Connection, exchange: str | None, symbols: Collection[str] | None = None
) -> list[Hole]:
    """The open holes in streams of trades, oldest first."""
    found = list_holes(connection, exchange=exchange, stream="trades", statuses=OPEN)
    return [gap for gap in found if symbols is None or gap.symbol in symbols]


@dataclass(slots=True)
class _Attempts:
    """How a hole was asked for so far, in seconds of the event loop's clock."""

    due: float = 0.0
    delay: float = field(default_factory=lambda: FIRST_RETRY)
    doubted_since: float | None = None
    """When the exchange first did not show all of it."""
    closed: Hole | None = None
    """The hole, once it was closed without some of its trades: they may turn up yet."""

    def wait(self, now: float, longest: float) -> float:
        """Put off until the delay has passed, which is twice as long the next time; the seconds."""
        delay, self.delay = self.delay, min(2 * self.delay, longest)
        self.due = now + delay
        return delay


class Healer:
    """Heals the holes of a collector's instruments as they come.

    An exchange may be behind over REST, or leave a trade out now and give it later: a hole is closed without
    a trade only when that was not given for a while, and even then it is asked for again, ever more seldom.

    Args:
        adapter: of the exchange.
        rest: of the exchange.
        url: the database.
        newest: the newest exchange time of a symbol, microseconds UTC: holes far older are left alone.
        symbols: the instruments.
        routes: where it is told of a hole that nobody can fill.
    """

    def __init__(
        self,
        adapter: Adapter,
        rest: Rest,
        url: str,
        symbols: Collection[str],
        newest: Callable[[str], int],
        routes: Routes = SILENT,
    ) -> None:
        self.healing: set[str] = set()
        """Instruments of which a hole is being filled now."""
        self.healed = 0
        self._adapter, self._rest, self._url = adapter, rest, url
        self._symbols, self._newest = symbols, newest
        self._routes = routes
        self._wake = asyncio.Event()
        self._attempts: dict[int, _Attempts] = {}

    def wake(self) -> None:
        """There is a new hole."""
        self._wake.set()

    async def run(self) -> None:
        """Heal until cancelled; where ids prove nothing, look for what was lost without a word, too."""
        if not self._rest.is_there and self._gives_past_trades:
            return
        comparison = Comparison(self._adapter, self._rest, self._url, self._symbols, self._newest)
        await asyncio.gather(self._heal(), comparison.run())

    @property
    def _gives_past_trades(self) -> bool:
        """Whether the exchange could be asked, were it there; where it cannot, holes are given up at once."""
        wanted = [TradeRange(symbol=symbol, begin=0, end=1) for symbol in self._symbols]
        return any(self._adapter.trade_pages(each) is not None for each in wanted)

    async def _heal(self) -> None:
        while True:
            self._wake.clear()
            pause = LOOK_SECONDS
            try:
                gaps = await self._heal_groups(await asyncio.to_thread(self._open))
                gaps += [each.closed for each in self._attempts.values() if each.closed is not None]
                for gap in gaps:
                    pause = min(pause, await self._try(gap))
            except (Unavailable, psycopg.Error) as error:
                log.debug("holes cannot be looked for now: %s", error)
                pause = FIRST_RETRY
            except Exception:
                # One hole that cannot be handled must not end the healing of all others.
                log.exception("a hole of %s could not be handled", self._adapter.exchange)
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._wake.wait()

    async def _heal_groups(self, gaps: list[Hole]) -> list[Hole]:
        """Fill small holes together whose time has come: they are many after a bad minute; what is left."""
        now = asyncio.get_running_loop().time()
        tried: set[int] = set()
        for group in groups([gap for gap in gaps if self._is_untried(gap, now)]):
            tried.update(gap.id for gap in group)
            symbol = group[0].symbol
            self.healing.add(symbol)
            try:
                await heal_together(group, self._adapter, self._rest, self._url)
            except (Unavailable, psycopg.Error) as error:
                log.warning(
                    "cannot heal %d holes of %s %s yet: %s", len(group), group[0].exchange, symbol, error
                )
                for gap in group:
                    self._attempts.setdefault(gap.id, _Attempts()).wait(now, LAST_RETRY)
            finally:
                self.healing.discard(symbol)
        if not tried:
            return gaps
        left = await asyncio.to_thread(self._open)
        self.healed += len(tried - {gap.id for gap in left})
        return left

    def _is_untried(self, gap: Hole, now: float) -> bool:
        attempts = self._attempts.get(gap.id)
        return attempts is None or (attempts.doubted_since is None and attempts.due <= now)

    def _open(self) -> list[Hole]:
        with database.connect(
            self._url, application_name=f"deltatape heal {self._adapter.exchange}"
        ) as found:
            gaps = open_gaps(found, self._adapter.exchange, self._symbols)
        return [gap for gap in gaps if gap.to_timestamp > self._newest(gap.symbol) - HEAL_MAX_AGE]

    async def _try(self, gap: Hole) -> float:
        """Heal a hole unless its time has not come; the seconds until something is to be done for it."""
        loop = asyncio.get_running_loop()
        attempts = self._attempts.setdefault(gap.id, _Attempts())
        now = loop.time()
        if now < attempts.due:
            return attempts.due - now
        since = attempts.doubted_since
        self.healing.add(gap.symbol)
        try:
            outcome = await heal(
                gap,
                self._adapter,
                self._rest,
                self._url,
                is_final=since is not None and now - since >= PATIENCE,
                is_again=attempts.closed is not None,
                routes=self._routes,
            )
        except (Unavailable, psycopg.Error) as error:
            log.warning("cannot heal %s %s yet: %s", gap.exchange, gap.symbol, error)
            return attempts.wait(loop.time(), LAST_RETRY)
        finally:
            self.healing.discard(gap.symbol)
        return await self._after(gap, attempts, outcome)

    async def _after(self, gap: Hole, attempts: _Attempts, outcome: Outcome) -> float:
        """What follows from what became of a hole; the seconds until something is to be done for it."""
        now = asyncio.get_running_loop().time()
        if outcome == "doubtful":
            log.debug("hole of %s %s: the exchange has not shown all of it", gap.exchange, gap.symbol)
            if attempts.doubted_since is None:
                attempts.doubted_since = now
            return attempts.wait(now, PATIENCE)
        self.healed += outcome == "healed"
        if attempts.closed is None or outcome == "healed":
            log.info("hole of %s %s: %s", gap.exchange, gap.symbol, outcome)
        is_given_up = outcome in ("lacking", "unhealable") and gap.from_id is not None
        if not is_given_up or attempts.delay >= LAST_ASKED_AGAIN:
            del self._attempts[gap.id]
            return LOOK_SECONDS
        if attempts.closed is None:
            attempts.closed = await asyncio.to_thread(_closed, self._url, gap)
        return attempts.wait(now, LAST_ASKED_AGAIN)
