"""Rules of market data, one week at a time.

Parameters: from, to: UTC days; sample: one snapshot in so many has its levels looked at. Sums of doubles are
held against each other within a billionth, as each was rounded once; `deltatape verify` recomputes them.
"""

from psycopg import sql

from storage.check_rule import Rule

_REPAIR = "deltatape repair"
_BOOK = "delete those snapshots (deltatape sql --write), then: deltatape repair"
_UNKNOWN = "deltatape collect, backfill or import writes the instrument"
_TABLES = (
    "trades",
    "orderbook_snapshots",
    "candles",
    "cvd_snapshots",
    "funding_rates",
    "indicators",
)
_SLICE = sql.SQL("timestamp >= %(from)s AND timestamp < %(to)s")
_WHERE = sql.SQL("format('%%s %%s %%s', exchange, symbol, timestamp) AS example")
_CANDLE = sql.SQL("format('%%s %%s %%s %%s', exchange, symbol, interval, timestamp) AS example")
_HIGHER = (("5m", "1m"), ("15m", "5m"), ("1h", "15m"), ("4h", "1h"), ("1d", "4h"))


def _unknown(table: str) -> Rule:
    # From name to name along the index: however many rows there are of each.
    query = sql.SQL("""
        WITH RECURSIVE named AS (
            (SELECT exchange, symbol FROM {table} WHERE {slice} ORDER BY exchange, symbol LIMIT 1)
            UNION ALL
            SELECT next.exchange, next.symbol FROM named CROSS JOIN LATERAL (
                SELECT exchange, symbol FROM {table}
                WHERE (exchange, symbol) > (named.exchange, named.symbol) AND {slice}
                ORDER BY exchange, symbol LIMIT 1) AS next
        )
        SELECT format('%%s %%s', exchange, symbol) AS example FROM named
        WHERE NOT EXISTS (
            SELECT FROM instruments AS known
            WHERE known.exchange = named.exchange AND known.symbol = named.symbol)
    """).format(table=sql.Identifier(table), slice=_SLICE)
    return Rule(f"{table} name instruments that are not there", query, _UNKNOWN)


def _of_rows(name: str, table: str, wrong: str, fix: str) -> Rule:
    """A rule that each row can be held to by itself."""
    example = _CANDLE if table == "candles" else _WHERE
    query = sql.SQL("SELECT {} FROM {} WHERE {} AND ({})").format(
        example,
        sql.Identifier(table),
        _SLICE,
        sql.SQL(wrong),
    )
    return Rule(name, query, fix)


def _higher(higher: str, lower: str) -> Rule:
    """A candle is what the closed candles of the next lower timeframe give, where those are all of trades."""
    query = sql.SQL("""
        WITH part AS (
            SELECT exchange, symbol, date_bin({length}, timestamp, 'epoch') AS bucket,
                first(open, timestamp) FILTER (WHERE trade_count > 0) AS open,
                max(high) FILTER (WHERE trade_count > 0) AS high,
                min(low) FILTER (WHERE trade_count > 0) AS low,
                last(close, timestamp) FILTER (WHERE trade_count > 0) AS close,
                sum(volume) AS volume, sum(buy_volume) AS buy_volume, sum(sell_volume) AS sell_volume,
                sum(trade_count) AS trade_count, last(cvd_close, timestamp) AS cvd_close
            FROM candles
            WHERE {slice} AND interval = {lower} AND source = 'trades'
            GROUP BY 1, 2, 3 HAVING bool_and(is_closed)
        )
        SELECT format('%%s %%s {name} %%s', whole.exchange, whole.symbol, whole.timestamp) AS example
        FROM candles AS whole JOIN part
            ON part.exchange = whole.exchange AND part.symbol = whole.symbol AND part.bucket = whole.timestamp
        WHERE whole.timestamp >= %(from)s AND whole.timestamp < %(to)s
            AND whole.interval = {higher} AND whole.source = 'trades' AND whole.is_closed
            AND (part.trade_count <> whole.trade_count
                OR (part.trade_count > 0 AND (part.open, part.high, part.low, part.close)
                    IS DISTINCT FROM (whole.open, whole.high, whole.low, whole.close))
                OR abs(part.volume - whole.volume) > 1e-9 * whole.volume
                OR abs(part.buy_volume - whole.buy_volume) > 1e-9 * whole.volume
                OR abs(part.sell_volume - whole.sell_volume) > 1e-9 * whole.volume
                OR part.cvd_close <> whole.cvd_close)
    """).format(
        slice=_SLICE,
        lower=sql.Literal(lower),
        higher=sql.Literal(higher),
        name=sql.SQL(higher),
        length=sql.SQL("{}::interval").format(sql.Literal(higher.replace("m", " min"))),
    )
    return Rule(f"candles of {higher} are not what those of {lower} give", query, _REPAIR)


_LEVELS = sql.SQL("""
    SELECT {example} FROM orderbook_snapshots AS book CROSS JOIN LATERAL (
        SELECT bool_and(coalesce(price {order} before, true)) AS is_ordered, min(size) AS smallest,
            max(price) FILTER (WHERE place = 1) AS best, count(*) AS levels,
            sum(size) FILTER (WHERE place <= 10) AS volume
        FROM (
            SELECT (level ->> 0)::float8 AS price, (level ->> 1)::float8 AS size, place,
                lag((level ->> 0)::float8) OVER (ORDER BY place) AS before
            FROM jsonb_array_elements({column}) WITH ORDINALITY AS one (level, place)) AS level) AS side
    WHERE {slice} AND extract(epoch FROM timestamp)::bigint %% %(sample)s = 0
        AND (side.levels NOT BETWEEN 1 AND book.depth OR NOT side.is_ordered OR side.smallest <= 0
            OR side.best IS DISTINCT FROM {best}
            OR abs(side.volume - {volume}) > 1e-9 * {volume})
""")


def _levels(name: str, column: str, order: str, best: str, volume: str) -> Rule:
    query = _LEVELS.format(
        example=_WHERE,
        slice=_SLICE,
        order=sql.SQL(order),
        column=sql.Identifier(column),
        best=sql.Identifier(best),
        volume=sql.Identifier(volume),
    )
    return Rule(name, query, _BOOK)


MARKET = (
    *map(_unknown, _TABLES),
    Rule(
        "trades stand at the same place of the tape",
        sql.SQL("""
        SELECT format('%%s %%s %%s number %%s', exchange, symbol, timestamp, trade_seq) AS example
        FROM trades WHERE {} GROUP BY exchange, symbol, timestamp, trade_seq HAVING count(*) > 1
        """).format(_SLICE),
        _REPAIR,
    ),
    Rule(
        "changes of the CVD do not lead from point to point",
        sql.SQL("""
        SELECT format('%%s %%s %%s', exchange, symbol, timestamp) AS example FROM (
            SELECT exchange, symbol, timestamp, cvd, cvd_change, anchor_timestamp,
                lag(cvd) OVER day AS before,
                date_bin('1 day', timestamp - interval '1 us', 'epoch') AS midnight
            FROM cvd_snapshots WHERE timestamp > %(from)s AND timestamp <= %(to)s
            WINDOW day AS (
                PARTITION BY exchange, symbol, date_bin('1 day', timestamp - interval '1 us', 'epoch')
                ORDER BY timestamp)) AS point
        WHERE (cvd_change <> cvd - coalesce(before, 0)
            OR anchor_timestamp < midnight OR anchor_timestamp >= timestamp)
            AND NOT EXISTS (
                SELECT FROM past_days AS past
                WHERE past.exchange = point.exchange AND past.symbol = point.symbol
                    AND past.table_name = 'cvd_snapshots' AND past.interval = '' AND past.day = midnight
                    AND past.dropped_timestamp IS NOT NULL)"""),
        _REPAIR,
    ),
    _of_rows(
        "candles without trades move",
        "candles",
        "trade_count = 0 AND (open <> high OR high <> low OR low <> close OR volume <> 0"
        " OR buy_volume <> 0 OR sell_volume <> 0)",
        _REPAIR,
    ),
    _of_rows(
        "candles reach beyond their range, or have another volume than was bought and sold",
        "candles",
        "low > least(open, close) OR high < greatest(open, close)"
        " OR vwap < low * (1 - 1e-9) OR vwap > high * (1 + 1e-9)"
        " OR buy_volume + sell_volume > volume * (1 + 1e-9)",
        _REPAIR,
    ),
    _of_rows(
        "candles do not begin with their timeframe",
        "candles",
        "date_bin(interval::interval, timestamp, 'epoch') <> timestamp",
        _REPAIR,
    ),
    *(_higher(*pair) for pair in _HIGHER),
    _of_rows(
        "books are crossed, or their mid, spread or imbalance is not that of their best prices and volumes",
        "orderbook_snapshots",
        "best_bid >= best_ask OR mid <> (best_bid + best_ask) / 2"
        " OR abs(spread - (best_ask - best_bid)) > 1e-9 * best_ask"
        " OR abs(spread_bps - spread / mid * 10000) > 1e-9 * abs(spread_bps)"
        " OR abs(imbalance - (bid_volume - ask_volume) / (bid_volume + ask_volume) * 100) > 1e-9"
        " OR date_trunc('second', timestamp) <> timestamp",
        _BOOK,
    ),
    _levels(
        "bids do not fall from the best one, which the row names", "bids_json", "<", "best_bid", "bid_volume"
    ),
    _levels(
        "asks do not rise from the best one, which the row names", "asks_json", ">", "best_ask", "ask_volume"
    ),
)
"""Every rule of it."""
