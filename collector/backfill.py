"""Past trades over REST onto the tape: only what it does not cover yet, so that a second run goes on."""

import asyncio
from collections.abc import Callable, Iterable, Iterator
from contextlib import aclosing
from dataclasses import dataclass, field, replace

from collector import history
from collector.exchanges.adapter import Adapter, TradePage, TradePages, TradeRange
from collector.rest import Refused, Rest
from market import DAY, Trade, Unavailable, WrongUse
from storage import amend, database, holes
from storage.coverage import Proof, Span
from storage.healing import OVERLAP
from storage.instruments import note_instruments
from storage.stored import StoredTape

MAX_TRADES = 50_000
"""Trades that one transaction writes, about."""
LOOK_PAST = 60_000_000
"""Microseconds to look past an end that nothing proves: a trade there shows that all before it has come."""
MAX_TRIES = 5
"""Failures in a row, none of them a refusal for too many requests, after which a backfill gives up."""

OnProgress = Callable[[int, int], None]
"""Called with the microseconds of the tape that are done, and how many of them there are to do."""


@dataclass(slots=True)
class Filled:
    """What a backfill did; times in microseconds.

    `left` is what of the range it asked for still lies in no coverage.
    """

    asked: int = 0
    new_trades: int = 0
    pages: int = 0
    covered: int = 0
    healed_holes: int = 0
    left: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """An unbroken part of the tape, all of its trades, and the ids in it that were given to none."""

    begin: int
    end: int
    trades: list[Trade]
    has_ids: bool
    ungiven: list[tuple[int, int, int, int]]


@dataclass(slots=True)
class _Part:
    """A part of the tape without coverage, between coverage or an end that was asked for."""

    begin: int
    end: int
    is_after_coverage: bool
    is_before_coverage: bool
    pages: list[TradePage] = field(default_factory=list)
    trades: int = 0

    @property
    def range(self) -> tuple[int, int]:
        """What to ask for: where it touches coverage a trade of the same moment may be missing there."""
        begin = self.begin - (OVERLAP if self.is_after_coverage else 0)
        return begin, self.end + (OVERLAP if self.is_before_coverage else LOOK_PAST)


class Backfill:
    """Fills one instrument's tape.

    Args:
        adapter: of the exchange; it knows the exchange's instruments.
        rest: of the exchange.
        url: the database.
        symbol: unified symbol.
        on_progress: told how far it has come.

    Raises:
        WrongUse: the exchange gives no past trades over REST, or does not list the symbol.
    """

    def __init__(
        self,
        adapter: Adapter,
        rest: Rest,
        url: str,
        symbol: str,
        on_progress: OnProgress = lambda _done, _total: None,
    ) -> None:
        self.filled = Filled()
        self._adapter = adapter
        self._rest = rest
        self._url = url
        self._symbol = symbol
        self._on_progress = on_progress
        self._instrument = adapter.instrument_for(symbol)
        self._islands: list[tuple[int, int]] = []
        self._ask(0, 1).close()

    async def run(self, begin: int, end: int) -> None:
        """Fill [begin, end) (microseconds UTC); what came is written, also when it is cancelled.

        Raises:
            Unavailable: the exchange does not answer, or the database; a second run goes on.
            WrongUse: the tape holds trades of another granularity.
        """
        tries = 0
        while True:
            parts = await self._find_parts(begin, end)
            left = sum(part.end - part.begin for part in parts)
            self.filled.asked = self.filled.asked or left
            before = self.filled.pages
            try:
                for part in parts:
                    await self._fill(part)
            except Refused:
                # The next request waits for as long as the exchange asked for.
                continue
            except Unavailable:
                tries = 1 if self.filled.pages > before else tries + 1
                if tries >= MAX_TRIES:
                    raise
                await asyncio.sleep(2**tries / 2)
                continue
            break
        parts = await self._find_parts(begin, end)
        self.filled.left = sum(part.end - part.begin for part in parts)
        self._on_progress(self.filled.asked, self.filled.asked)

    def _ask(self, begin: int, end: int) -> TradePages:
        asking = self._adapter.trade_pages(TradeRange(symbol=self._symbol, begin=begin, end=end))
        if asking is None or not self._rest.is_there:
            raise WrongUse(
                f"{self._adapter.exchange} gives no past trades over REST: "
                "deltatape import reads files, --candles asks for candles"
            )
        return asking

    async def _find_parts(self, begin: int, end: int) -> list[_Part]:
        self._islands, settled = await asyncio.to_thread(self._read_ledger)
        return list(uncovered(settled, begin, end))

    def _read_ledger(self) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
        """The coverage; and the same with the days that have left the database, which nobody fills."""
        with database.connect(self._url) as connection:
            tape = StoredTape(connection, self._adapter.exchange, self._symbol)
            islands = tape.islands()
            left = [(day, day + DAY) for day in tape.past().trades]
        return islands, joined([*islands, *left])

    async def _fill(self, part: _Part) -> None:
        """Ask for a part, and write it as it comes."""
        try:
            async with aclosing(history.pages(self._rest, self._ask(*part.range))) as pages:
                async for page in pages:
                    if part.pages and self._is_full(part, page):
                        await self._write(part)
                    part.pages.append(page)
                    part.trades += len(page.trades)
        finally:
            if part.pages:
                await self._write(part)

    def _is_full(self, part: _Part, page: TradePage) -> bool:
        """A transaction holds one day's trades, about, and no more than MAX_TRADES."""
        day = part.pages[0].from_timestamp // DAY
        return part.trades + len(page.trades) > MAX_TRADES or page.from_timestamp // DAY != day

    async def _write(self, part: _Part) -> None:
        """Write what came of a part; a write that has begun is waited for, also when this is cancelled."""
        batch = self._batch(part)
        self.filled.pages += len(part.pages)
        part.pages, part.trades = [], 0
        writing = asyncio.create_task(asyncio.to_thread(self._store, batch))
        try:
            await asyncio.shield(writing)
        finally:
            new, healed = await writing
            self.filled.new_trades += new
            self.filled.healed_holes += healed
            self.filled.covered += batch.end - batch.begin
            self._on_progress(self.filled.covered, self.filled.asked)

    def _batch(self, part: _Part) -> Batch:
        """The part's pages as one, cut to what is to be covered."""
        pages = sorted(part.pages, key=lambda page: (page.from_timestamp, page.first_id or 0))
        batch = join(pages)
        begin, end = max(batch.begin, part.begin), min(batch.end, part.end)
        times = [trade.timestamp for trade in batch.trades]
        if not part.is_before_coverage and batch.end >= part.end and max(times, default=0) < part.end:
            # Nothing shows that the exchange's time has reached the end.
            end = min(end, max(times, default=begin) + 1)
        kept = [trade for trade in batch.trades if begin <= trade.timestamp < end or self._covers(trade)]
        return replace(batch, begin=begin, end=max(begin, end), trades=kept)

    def _covers(self, trade: Trade) -> bool:
        return any(begin <= trade.timestamp < end for begin, end in self._islands)

    def _store(self, batch: Batch) -> tuple[int, int]:
        """One transaction; how many trades were new, and how many holes on record are filled now."""
        exchange, symbol = self._adapter.exchange, self._symbol
        is_numbered = batch.has_ids and self._adapter.has_consecutive_ids
        proof: Proof = "ids" if is_numbered else "rest"
        inside = [trade for trade in batch.trades if batch.begin <= trade.timestamp < batch.end]
        span = Span(
            batch.begin,
            batch.end,
            inside[0].trade_id if inside else None,
            inside[-1].trade_id if inside else None,
            proof,
            "backfill",
            0,
        )
        name = f"deltatape backfill {exchange}"
        with database.connect(self._url, application_name=name) as connection:
            amend.lock_tapes(connection, exchange, [symbol])
            note_instruments(connection, [self._instrument])
            if is_numbered:
                holes.record_ungiven(connection, exchange, symbol, batch.ungiven, proof)
            new = amend.amend(connection, exchange, symbol, batch.trades, None, [span], "import")
            healed = holes.close_covered(connection, exchange, symbol, batch.begin, batch.end)
        return new, healed


def uncovered(islands: Iterable[tuple[int, int]], begin: int, end: int) -> Iterator[_Part]:
    """The parts of [begin, end) that lie in none of these islands (disjoint, in order of time)."""
    is_after = False
    for first, last in islands:
        if first >= end:
            yield from _part(begin, end, is_after, first == end)
            return
        yield from _part(begin, first, is_after, True)
        if last >= begin:
            begin, is_after = last, True
    yield from _part(begin, end, is_after, False)


def joined(intervals: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """These half-open intervals in order of time, those that touch or overlap as one."""
    found: list[tuple[int, int]] = []
    for begin, end in sorted(intervals):
        if found and begin <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], end))
        else:
            found.append((begin, end))
    return found


def _part(begin: int, end: int, is_after: bool, is_before: bool) -> Iterator[_Part]:
    if begin < end:
        yield _Part(begin, end, is_after, is_before)


def join(pages: list[TradePage]) -> Batch:
    """Adjoining pages, in order, as one; with the runs of ids in them that no trade has."""
    trades = sorted((trade for page in pages for trade in page.trades), key=lambda trade: trade.order)
    return Batch(
        begin=min(page.from_timestamp for page in pages),
        end=max(page.to_timestamp for page in pages),
        trades=trades,
        has_ids=any(page.first_id is not None for page in pages),
        ungiven=[run for page in pages for run in _ungiven(page)],
    )


def _ungiven(page: TradePage) -> Iterator[tuple[int, int, int, int]]:
    """(first id, last id, time before, time after) of each run of ids in the page that no trade has."""
    if page.first_id is None or page.last_id is None:
        return
    next_id, before = page.first_id, page.from_timestamp
    for trade in sorted(page.trades, key=lambda trade: trade.trade_seq):
        if trade.trade_seq > next_id:
            yield next_id, trade.trade_seq - 1, min(before, trade.timestamp), trade.timestamp
        next_id, before = trade.trade_seq + 1, trade.timestamp
    if next_id <= page.last_id:
        yield next_id, page.last_id, before, max(before, page.to_timestamp)
