"""Many small holes of one instrument's day at once: few requests, and one rebuild for all of them."""

import asyncio
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby

from collector import history
from collector.exchanges.adapter import Adapter, TradeRange
from collector.rest import Rest
from market import DAY, Trade
from storage import database
from storage.amend import amend
from storage.holes import Hole

SMALL = 1_000
"""Ids of one hole at most, and ids that one question is worth."""
MOST = 50_000
"""Ids that one transaction fills at most."""


def groups(gaps: Iterable[Hole]) -> Iterator[list[Hole]]:
    """Small holes with ids, those of one instrument and UTC day together where there are several."""
    small = [gap for gap in gaps if gap.missing_count is not None and gap.missing_count <= SMALL]
    for _, same in groupby(sorted(small, key=_place), key=lambda gap: _place(gap)[:2]):
        group: list[Hole] = []
        ids = 0
        for gap in same:
            if ids + (gap.missing_count or 0) > MOST:
                yield group
                group, ids = [], 0
            group.append(gap)
            ids += gap.missing_count or 0
        if len(group) > 1:
            yield group


def _place(gap: Hole) -> tuple[str, int, int]:
    return gap.symbol, gap.from_timestamp // DAY, _bounds(gap)[0]


def _bounds(gap: Hole) -> tuple[int, int]:
    return int(gap.from_id or 0), int(gap.to_id or 0)


async def heal_together(group: Sequence[Hole], adapter: Adapter, rest: Rest, url: str) -> None:
    """Fill holes of one instrument's day; those of which the exchange does not give every id stay open.

    Args:
        group: as `groups` makes it.
        adapter: of their exchange.
        rest: of their exchange.
        url: the database.

    Raises:
        Unavailable: the exchange or the database does not answer now; nothing was written.
    """
    firsts = [_bounds(gap)[0] for gap in group]
    found: list[Trade] = []
    for wanted in _questions(group):
        asking = adapter.trade_pages(wanted)
        if asking is None:
            return
        async for page in history.pages(rest, asking):
            for trade in page.trades:
                at = bisect_right(firsts, trade.trade_seq) - 1
                if at >= 0 and trade.trade_seq <= _bounds(group[at])[1]:
                    found.append(trade)
    if found:
        await asyncio.to_thread(_write, url, group[0], found)


def _questions(group: Sequence[Hole]) -> Iterator[TradeRange]:
    """What to ask for: holes that lie near one another are asked for with what is between them."""
    together: list[Hole] = []
    for gap in group:
        if together and _bounds(gap)[1] - _bounds(together[0])[0] >= SMALL:
            yield _question(together)
            together = []
        together.append(gap)
    yield _question(together)


def _question(gaps: Sequence[Hole]) -> TradeRange:
    return TradeRange(
        symbol=gaps[0].symbol,
        begin=min(gap.from_timestamp for gap in gaps),
        end=max(gap.to_timestamp for gap in gaps) + 1,
        first_id=_bounds(gaps[0])[0],
        last_id=_bounds(gaps[-1])[1],
    )


def _write(url: str, gap: Hole, trades: list[Trade]) -> None:
    """Adding the trades closes the holes that have all of theirs now."""
    with database.connect(url, application_name=f"deltatape heal {gap.exchange}") as connection:
        amend(connection, gap.exchange, gap.symbol, trades, None, [], "healed")
