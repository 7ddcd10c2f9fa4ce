"""Writing the tape: trades, candles, book snapshots, CVD points, and what goes with them.

Every function runs inside the caller's transaction and may be called again with the same rows.
"""

import re
from collections.abc import Collection, Iterable, Sequence
from struct import Struct

from psycopg import sql
from psycopg.errors import UniqueViolation

from market import BookSnapshot, Candle, CvdPoint, Side, Trade, WrongUse
from market.timeframe import DAY, format_time, to_datetime
from storage.copy import (
    NULL,
    Packed,
    Rows,
    all_or_nothing,
    copy_rows,
    names,
    stage_rows,
    text_field,
    upsert_rows,
    wire_time,
)
from storage.database import Connection
from storage.instruments import write_instruments

__all__ = [
    "has_trades_since",
    "merge_trades",
    "write_books",
    "write_candles",
    "write_cvd",
    "write_instruments",
    "write_rejected",
    "write_trades",
]

TRADE_COLUMNS = (
    "timestamp",
    "exchange",
    "symbol",
    "trade_id",
    "trade_seq",
    "fill_count",
    "price",
    "size",
    "side",
    "cvd_at_trade",
    "received_timestamp",
)
CANDLE_KEY = ("exchange", "symbol", "interval", "timestamp")
CANDLE_VALUES = (
    "open",
    "high",
    "low",
    "close",
    "volume",
    "buy_volume",
    "sell_volume",
    "vwap",
    "trade_count",
    "cvd_close",
    "imbalance_mean",
    "imbalance_last",
    "spread_bps_mean",
    "snapshot_count",
    "is_closed",
    "is_whole",
    "source",
)
CVD_KEY = ("exchange", "symbol", "timestamp")
CVD_VALUES = ("cvd", "cvd_change", "cvd_ma_5", "cvd_ma_20", "anchor_timestamp")
_BOOK_VALUES = (
    "best_bid",
    "best_ask",
    "mid",
    "spread",
    "spread_bps",
    "bid_volume",
    "ask_volume",
    "imbalance",
    "depth",
    "bids_json",
    "asks_json",
    "sequence",
)
# A row's first field where it is a time, and runs of fields of a known size, each behind its length.
_pack_count = Struct("!h").pack
_pack_begin = Struct("!hiq").pack
_pack_integer = Struct("!iq").pack
_pack_length = Struct("!i").pack
_SIDES = {None: NULL} | {side: text_field(side) for side in Side}
_REJECTED_BYTES = 4096
_REJECTED_ROWS = 10_000
# Not every id that begins with an a is an aggregate's: some exchanges name trades by hexadecimal ids.
_AGGREGATE = "^a[0-9]+$"
_is_aggregate = re.compile(_AGGREGATE).match

Received = Sequence[int | None] | None


def write_trades(
    connection: Connection, exchange: str, trades: Sequence[tuple[Trade, float]], received: Received
) -> None:
    """Write trades that are new to the tape, each with its `cvd_at_trade`: the fast way.

    Args:
        connection: its transaction is the caller's.
        exchange: exchange id.
        trades: the trades, of any symbols.
        received: when each came, in microseconds UTC; None where that is not known.

    Raises:
        psycopg.errors.UniqueViolation: one of them is stored; nothing was written, the transaction is
            still good, and `merge_trades` is the way.
        WrongUse: aggregates would mix with single trades.
    """
    if not trades:
        return
    with all_or_nothing(connection):
        _refuse_mixture(connection, exchange, [trade for trade, _ in trades])
        copy_rows(connection, "trades", TRADE_COLUMNS, packed_trades(exchange, trades, received))


def merge_trades(
    connection: Connection, exchange: str, trades: Sequence[Trade], received: Received
) -> list[Trade]:
    """Write those of `trades` that the tape does not hold, with a `cvd_at_trade` of 0 until the rebuild.

    A stored trade of equal id within a day of the batch is the same trade, whatever its time, unless the
    exchange began its ids anew in between.

    Args:
        connection: its transaction is the caller's.
        exchange: exchange id.
        trades: the trades, of any symbols.
        received: when each came, in microseconds UTC; None where that is not known.

    Returns:
        The trades that were written; `rebuild` their span before committing.

    Raises:
        WrongUse: aggregates would mix with single trades.
    """
    if not trades:
        return []
    first: dict[tuple[str, str], tuple[Trade, int | None]] = {}
    for trade, at in zip(trades, received or [None] * len(trades), strict=True):
        first.setdefault((trade.symbol, trade.trade_id), (trade, at))
    with all_or_nothing(connection):
        _refuse_mixture(connection, exchange, trades)
        rows = [(trade, 0.0) for trade, _ in first.values()]
        times = [at for _, at in first.values()]
        staged = stage_rows(connection, "trades", TRADE_COLUMNS, packed_trades(exchange, rows, times))
        written = connection.execute(
            sql.SQL("""
                INSERT INTO trades ({columns}) SELECT {columns} FROM {staged} AS staged
                WHERE NOT EXISTS (
                    SELECT FROM trades AS stored
                    WHERE stored.exchange = %(exchange)s
                        AND stored.timestamp BETWEEN %(first)s AND %(last)s
                        AND stored.symbol = staged.symbol AND stored.trade_id = staged.trade_id
                        AND NOT EXISTS (
                            SELECT FROM stream_gaps AS reset
                            WHERE reset.exchange = %(exchange)s AND reset.symbol = staged.symbol
                                AND reset.stream = 'trades' AND reset.cause = 'id_reset'
                                AND reset.to_timestamp > least(stored.timestamp, staged.timestamp)
                                AND reset.to_timestamp <= greatest(stored.timestamp, staged.timestamp)))
                ON CONFLICT DO NOTHING
                RETURNING symbol, trade_id
            """).format(columns=names(TRADE_COLUMNS), staged=staged),
            {
                "exchange": exchange,
                "first": to_datetime(min(trade.timestamp for trade in trades) - DAY),
                "last": to_datetime(max(trade.timestamp for trade in trades) + DAY),
            },
        ).fetchall()
    new = {(symbol, trade_id) for symbol, trade_id in written}
    return [trade for key, (trade, _) in first.items() if key in new]


def has_trades_since(connection: Connection, exchange: str, symbol: str, timestamp: int) -> bool:
    """Whether the tape holds a trade at or after `timestamp` (microseconds UTC), or held one that left."""
    row = connection.execute(
        """
        SELECT EXISTS (
            SELECT FROM trades
            WHERE exchange = %(exchange)s AND symbol = %(symbol)s AND timestamp >= %(from)s
        ) OR EXISTS (
            SELECT FROM past_days
            WHERE exchange = %(exchange)s AND symbol = %(symbol)s AND table_name = 'trades' AND interval = ''
                AND dropped_timestamp IS NOT NULL AND day > %(from)s - '1 day'::interval)
        """,
        {"exchange": exchange, "symbol": symbol, "from": to_datetime(timestamp)},
    ).fetchone()
    return row is not None and bool(row[0])


def write_candles(connection: Connection, exchange: str, candles: Iterable[Candle]) -> int:
    """Write candles; of several of one bucket the last counts, and one from trades above all others.

    A candle from trades replaces a stored one that differs, and never opens a closed one again; an
    exchange's or imported one only fills a place where there is none.

    Returns:
        How many rows were written or changed.
    """
    latest: dict[tuple[str, str, int], Candle] = {}
    for candle in candles:
        key = (candle.symbol, candle.timeframe, candle.timestamp)
        if candle.source == "trades" or key not in latest:
            latest[key] = candle
    if not latest:
        return 0
    rows = (_candle_row(exchange, candle) for candle in latest.values())
    with all_or_nothing(connection):
        staged = stage_rows(connection, "candles", CANDLE_KEY + CANDLE_VALUES, rows)
        query = sql.SQL("INSERT INTO candles AS stored ({columns}) SELECT {columns} FROM {staged} {rest}")
        return connection.execute(
            query.format(columns=names(CANDLE_KEY + CANDLE_VALUES), staged=staged, rest=REPLACE_CANDLE)
        ).rowcount


def _replace_candle() -> sql.Composed:
    values = [column for column in CANDLE_VALUES if column != "is_closed"]
    return sql.SQL("""
        ON CONFLICT ({key}) DO UPDATE SET
            ({values}) = ROW ({new}),
            is_closed = stored.is_closed OR excluded.is_closed,
            revised = stored.revised + (stored.is_closed AND stored.source = 'trades')::int
        WHERE excluded.source = 'trades'
            AND ({old}, stored.is_closed) IS DISTINCT FROM
                ({new}, stored.is_closed OR excluded.is_closed)
    """).format(
        key=names(CANDLE_KEY),
        values=names(values),
        new=names(values, "excluded"),
        old=names(values, "stored"),
    )


REPLACE_CANDLE = _replace_candle()
"""How a candle takes the place of the stored one, after `INSERT INTO candles AS stored … SELECT …`."""


def write_books(connection: Connection, exchange: str, snapshots: Iterable[BookSnapshot]) -> int:
    """Write book snapshots; one that is stored stays as it is.

    Returns:
        How many rows were written.
    """
    each = {(snapshot.symbol, snapshot.timestamp): snapshot for snapshot in snapshots}
    if not each:
        return 0
    rows = _packed_books(exchange, each.values())
    return _write_mostly_new(connection, "orderbook_snapshots", _BOOK_VALUES, rows, is_update=False)


def write_cvd(connection: Connection, exchange: str, points: Iterable[CvdPoint]) -> int:
    """Write CVD points; a stored one that differs is replaced.

    Returns:
        How many rows were written or changed.
    """
    rows = [
        (exchange, p.symbol, p.timestamp, p.cvd, p.cvd_change, p.cvd_ma_5, p.cvd_ma_20, p.anchor_timestamp)
        for p in {(p.symbol, p.timestamp): p for p in points}.values()
    ]
    if not rows:
        return 0
    return _write_mostly_new(connection, "cvd_snapshots", CVD_VALUES, rows, is_update=True)


def _write_mostly_new(
    connection: Connection,
    table: str,
    values: Sequence[str],
    rows: Rows,
    *,
    is_update: bool,
) -> int:
    """Copy rows straight in; only where one of them is stored, all go by way of the staging table."""
    columns = (*CVD_KEY, *values)
    with all_or_nothing(connection):
        try:
            with connection.transaction():
                return copy_rows(connection, table, columns, rows)
        except UniqueViolation:
            return upsert_rows(connection, table, columns, rows, CVD_KEY, is_update=is_update)


def write_rejected(
    connection: Connection, exchange: str, rows: Iterable[tuple[int, str | None, str, bytes]]
) -> None:
    """Keep messages that could not be used: the first 4 KB of each, the newest 10,000 of an exchange.

    One that is kept already, from an earlier replay, is not kept twice.

    Args:
        connection: its transaction is the caller's.
        exchange: exchange id.
        rows: (microseconds UTC, stream or None, reason, message).
    """
    kept = [
        {
            "exchange": exchange,
            "at": to_datetime(at),
            "stream": stream,
            "reason": reason,
            "raw": raw[:_REJECTED_BYTES],
        }
        for at, stream, reason, raw in rows
    ]
    with all_or_nothing(connection), connection.cursor() as cursor:
        cursor.executemany(
            """
            INSERT INTO rejected_messages (exchange, timestamp, stream, reason, raw)
            SELECT %(exchange)s, %(at)s, %(stream)s, %(reason)s, %(raw)s
            WHERE NOT EXISTS (
                SELECT FROM rejected_messages
                WHERE exchange = %(exchange)s AND timestamp = %(at)s AND reason = %(reason)s
                    AND raw = %(raw)s)
            """,
            kept,
        )
        connection.execute(
            """
            DELETE FROM rejected_messages WHERE exchange = %(exchange)s AND id <= (
                SELECT id FROM rejected_messages WHERE exchange = %(exchange)s
                ORDER BY id DESC OFFSET %(kept)s LIMIT 1)
            """,
            {"exchange": exchange, "kept": _REJECTED_ROWS},
        )


def packed_trades(
    exchange: str, trades: Sequence[tuple[Trade, float]], received: Received
) -> Packed[tuple[tuple[Trade, float], int | None]]:
    """Trades as binary COPY wants them, in the order of TRADE_COLUMNS."""
    columns, name = len(TRADE_COLUMNS), text_field(exchange)
    symbols = {symbol: name + text_field(symbol) for symbol in {trade.symbol for trade, _ in trades}}
    # What follows the id is of a known size for each side: one call for all of it.
    ends = {side: Struct(f"!iqiqidid{len(said)}sid").pack for side, said in _SIDES.items()}

    def pack(row: tuple[tuple[Trade, float], int | None]) -> bytes:
        (trade, cvd), at = row
        side, trade_id = trade.side, trade.trade_id.encode()
        said = _SIDES[side]
        return b"".join(
            (
                _pack_begin(columns, 8, wire_time(trade.timestamp)),
                symbols[trade.symbol],
                _pack_length(len(trade_id)),
                trade_id,
                ends[side](
                    8, trade.trade_seq, 8, trade.fill_count, 8, trade.price, 8, trade.size, said, 8, cvd
                ),
                NULL if at is None else _pack_integer(8, wire_time(at)),
            )
        )

    return Packed(list(zip(trades, received or [None] * len(trades), strict=True)), pack)


def _candle_row(exchange: str, candle: Candle) -> tuple[object, ...]:
    return (
        exchange,
        candle.symbol,
        candle.timeframe,
        candle.timestamp,
        candle.open,
        candle.high,
        candle.low,
        candle.close,
        candle.volume,
        candle.buy_volume,
        candle.sell_volume,
        candle.vwap,
        candle.trade_count,
        candle.cvd_close,
        candle.imbalance_mean,
        candle.imbalance_last,
        candle.spread_bps_mean,
        candle.snapshot_count,
        candle.is_closed,
        candle.is_whole,
        candle.source,
    )


def _packed_books(exchange: str, snapshots: Collection[BookSnapshot]) -> Packed[BookSnapshot]:
    begin = _pack_count(len(CVD_KEY) + len(_BOOK_VALUES)) + text_field(exchange)
    symbols = {symbol: begin + text_field(symbol) for symbol in {each.symbol for each in snapshots}}

    def pack(book: BookSnapshot) -> bytes:
        sequence = NULL if book.sequence is None else _pack_integer(8, book.sequence)
        time = _pack_integer(8, wire_time(book.timestamp))
        return b"".join((symbols[book.symbol], time, book.fields, sequence))

    return Packed(snapshots, pack)


def _refuse_mixture(connection: Connection, exchange: str, trades: Sequence[Trade]) -> None:
    """One granularity for one instrument and time: aggregates and their single trades would count twice."""
    kinds: tuple[list[Trade], list[Trade]] = [], []
    for trade in trades:
        kinds[trade.trade_id[:1] == "a" and _is_aggregate(trade.trade_id) is not None].append(trade)
    bounds = [_bounds(kind) for kind in kinds]
    for is_aggregate in (False, True):
        for symbol, (low, high) in bounds[is_aggregate].items():
            other = bounds[not is_aggregate].get(symbol)
            is_mixed = other is not None and low <= other[1] and other[0] <= high
            if is_mixed or _holds(connection, exchange, symbol, not is_aggregate, low, high):
                new, old = ("aggregates", "single trades")[:: 1 if is_aggregate else -1]
                raise WrongUse(
                    f"{exchange} {symbol}: {new} cannot be added between {format_time(low)} and"
                    f" {format_time(high)}, where the tape holds {old}; keep them in another database"
                )


def _bounds(trades: Iterable[Trade]) -> dict[str, list[int]]:
    """The first and last time of each symbol."""
    bounds: dict[str, list[int]] = {}
    for trade in trades:
        time = trade.timestamp
        known = bounds.get(trade.symbol)
        if known is None:
            bounds[trade.symbol] = [time, time]
        elif time > known[1]:
            known[1] = time
        elif time < known[0]:
            known[0] = time
    return bounds


def _holds(
    connection: Connection, exchange: str, symbol: str, is_aggregate: bool, low: int, high: int
) -> bool:
    found = connection.execute(
        """
        SELECT FROM trades
        WHERE exchange = %s AND symbol = %s AND timestamp BETWEEN %s AND %s
            AND (trade_id ~ %s) = %s
        LIMIT 1
        """,
        (exchange, symbol, to_datetime(low), to_datetime(high), _AGGREGATE, is_aggregate),
    )
    return found.fetchone() is not None
