"""Past funding of perpetual contracts over REST; what is stored already is asked for again: it is little."""

from collections.abc import Callable
from contextlib import aclosing

from collector import history
from collector.collect import Target, learn_instruments
from collector.exchanges.adapter import Adapter
from collector.rest import Rest
from market import DAY, WrongUse
from storage import database
from storage.funding import last_funding, write_funding
from storage.instruments import note_instruments

FIRST_DAYS = 30
"""How far back to begin where nothing is stored."""


async def backfill_funding(
    adapter: Adapter,
    rest: Rest,
    url: str,
    symbol: str,
    begin: int,
    end: int,
    on_progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> int:
    """Write the funding that was paid in [begin, end).

    Args:
        adapter: of the exchange; it knows the exchange's instruments.
        rest: of the exchange.
        url: the database.
        symbol: unified symbol.
        begin: microseconds UTC.
        end: microseconds UTC, exclusive.
        on_progress: told the microseconds that are done, and how many there are to do.

    Returns:
        How many payments were written or changed.

    Raises:
        WrongUse: the instrument has no funding, or the exchange gives none.
        Unavailable: it does not answer; what came is written.
    """
    instrument = adapter.instrument_for(symbol)
    asking = adapter.funding_pages(symbol, begin, end)
    if asking is None or not rest.is_there:
        raise WrongUse(f"{adapter.exchange} gives no funding of {symbol} over REST")
    written, lowest, highest = 0, end, begin
    with database.connect(url) as connection:
        note_instruments(connection, [instrument])
        connection.commit()
        async with aclosing(history.pages(rest, asking)) as pages:
            async for page in pages:
                written += write_funding(connection, adapter.exchange, page)
                connection.commit()
                if page:
                    lowest, highest = min(lowest, page[0].timestamp), max(highest, page[-1].timestamp)
                    on_progress(max(highest - lowest, 0), end - begin)
    on_progress(end - begin, end - begin)
    return written


async def catch_up(target: Target, url: str, now: int) -> int:
    """Write what the perpetual contracts among `target` have paid since what is stored; how many payments.

    Raises:
        Unavailable: the exchange does not answer; what came is written.
    """
    adapter = target.adapter()
    rest, written = target.rest(adapter), 0
    try:
        if not rest.is_there:
            return 0
        await learn_instruments(adapter, rest)
        for symbol in target.symbols:
            if adapter.funding_pages(symbol, now, now) is None:
                continue
            with database.connect(url) as connection:
                last = last_funding(connection, adapter.exchange, symbol)
            begin = now - FIRST_DAYS * DAY if last is None else last + 1
            written += await backfill_funding(adapter, rest, url, symbol, begin, now)
    finally:
        await rest.close()
    return written
