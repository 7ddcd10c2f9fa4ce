"""Past candles over REST: only buckets that are not stored, and none that the trades on the tape cover."""

from collections.abc import Callable, Iterator
from contextlib import aclosing

from collector import history
from collector.exchanges.adapter import Adapter
from collector.exchanges.events import CandleSeen
from collector.rest import Rest
from market import Candle, Timeframe, WrongUse
from market.timeframe import DAY, from_datetime, to_datetime
from storage import database, tape
from storage.instruments import note_instruments
from storage.stored import StoredTape

NEAR = 300
"""Missing buckets this near to one another are asked for together."""


async def backfill_candles(
    adapter: Adapter,
    rest: Rest,
    url: str,
    symbol: str,
    timeframe: Timeframe,
    begin: int,
    end: int,
    on_progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> int:
    """Write the exchange's closed candles that open in [begin, end) and lie outside of trade coverage.

    Args:
        adapter: of the exchange; it knows the exchange's instruments.
        rest: of the exchange.
        url: the database.
        symbol: unified symbol.
        timeframe: which candles.
        begin: microseconds UTC.
        end: microseconds UTC, exclusive.
        on_progress: told the microseconds that are done, and how many there are to do.

    Returns:
        How many were written.

    Raises:
        WrongUse: the exchange gives no such candles.
        Unavailable: it does not answer; what came is written, a second run goes on.
    """
    with database.connect(url) as connection:
        note_instruments(connection, [adapter.instrument_for(symbol)])
        tape = StoredTape(connection, adapter.exchange, symbol)
        islands = tape.islands()
        # What was dropped is not missing.
        islands += [(day, day + DAY) for interval, day in tape.past().candles if interval == timeframe]
        parts = list(_missing(connection, adapter.exchange, symbol, timeframe, begin, end, islands))
    total = sum(last - first for first, last in parts)
    done = written = 0
    for first, last in parts:
        asking = adapter.candle_pages(symbol, timeframe, first, last)
        if asking is None or not rest.is_there:
            raise WrongUse(f"{adapter.exchange} gives no past {timeframe} candles over REST")
        async with aclosing(history.pages(rest, asking)) as pages:
            async for page in pages:
                written += _write(url, adapter.exchange, page, islands)
                reached = max((seen.open_time for seen in page), default=first)
                on_progress(done + min(reached, last) - first, total)
        done += last - first
    on_progress(total, total)
    return written


def _missing(
    connection: database.Connection,
    exchange: str,
    symbol: str,
    timeframe: Timeframe,
    begin: int,
    end: int,
    islands: list[tuple[int, int]],
) -> Iterator[tuple[int, int]]:
    """Parts of [begin, end) that hold every bucket that is neither stored nor inside trade coverage."""
    length = timeframe.microseconds
    with connection.cursor(name="missing_buckets") as cursor:
        rows = cursor.execute(
            """
                SELECT bucket
                FROM generate_series(%(from)s::timestamptz, %(last)s, %(step)s::interval) AS bucket
                WHERE NOT EXISTS (
                    SELECT FROM candles
                    WHERE exchange = %(exchange)s AND symbol = %(symbol)s AND interval = %(interval)s
                        AND timestamp = bucket AND timestamp >= %(from)s AND timestamp <= %(last)s)
                ORDER BY bucket
            """,
            {
                "from": to_datetime(timeframe.open_of(begin + length - 1)),
                "last": to_datetime(end - 1),
                "step": f"{length} us",
                "exchange": exchange,
                "symbol": symbol,
                "interval": timeframe,
            },
        )
        first = last = None
        for (moment,) in rows:
            bucket = from_datetime(moment)
            if _touches(islands, bucket, bucket + length):
                continue
            if first is None or last is None:
                first = bucket
            elif bucket - last > NEAR * length:
                yield first, last
                first = bucket
            last = bucket + length
        if first is not None and last is not None:
            yield first, last


def _touches(islands: list[tuple[int, int]], begin: int, end: int) -> bool:
    return any(first < end and begin < last for first, last in islands)


def _write(url: str, exchange: str, page: list[CandleSeen], islands: list[tuple[int, int]]) -> int:
    candles = [
        Candle(
            symbol=seen.symbol,
            timeframe=seen.timeframe,
            timestamp=seen.open_time,
            open=seen.open,
            high=seen.high,
            low=seen.low,
            close=seen.close,
            volume=seen.volume,
            buy_volume=seen.buy_volume,
            trade_count=seen.trade_count,
            is_closed=True,
            source="exchange",
        )
        for seen in page
        if not _touches(islands, seen.open_time, seen.open_time + seen.timeframe.microseconds)
    ]
    with database.connect(url) as connection:
        return tape.write_candles(connection, exchange, candles)
