"""What the rows of trades, coverage and books give: CVD and candles, as SQL that recomputes them.

Each text is a list of CTEs that ends in `changes`: the rows that differ from the stored ones, as
`new_<column>` and `old_<column>`; every new one is NULL where the rules allow no row, every old one where
none is stored. `storage.rebuild` writes them or shows them. Sums run on the shortest decimals of the doubles
and are rounded once, as in `market.decimals`, so that the results equal the stream's bit for bit.

Parameters: exchange, symbol; from, to: whole UTC days; start, start_day: where the tape changed, and its
day; island_from, island_to: coverage, touching spans joined; settled: CVD points up to here are due; closed:
candles that end by here are closed; carry_price, carry_time: of the last trade before `from`; bookless,
pointless, and past_candles with past_intervals: days whose book snapshots, CVD points and candles have left
the database. What books gave to candles stays there then; points and candles that have left come not again.
"""

from collections.abc import Sequence

from psycopg import sql

from storage.copy import names
from storage.tape import CANDLE_VALUES, CVD_VALUES

_ISLANDS = sql.SQL("""
    islands AS MATERIALIZED (
        SELECT from_timestamp, to_timestamp
        FROM unnest(%(island_from)s::timestamptz[], %(island_to)s::timestamptz[])
            AS island (from_timestamp, to_timestamp)
    )
""")

MINUTES = sql.SQL("""
    minutes AS MATERIALIZED (
        SELECT date_bin('1 minute', timestamp, 'epoch') AS minute,
            first(price, (timestamp, trade_seq)) AS open,
            max(price) AS high,
            min(price) AS low,
            last(price, (timestamp, trade_seq)) AS close,
            max(timestamp) AS last_time,
            sum(fill_count) AS trade_count,
            sum(exact_size) AS volume,
            coalesce(sum(exact_size) FILTER (WHERE side = 'buy'), 0) AS buy_volume,
            coalesce(sum(exact_size) FILTER (WHERE side = 'sell'), 0) AS sell_volume,
            sum(price::text::numeric * exact_size) AS notional
        FROM (SELECT *, size::text::numeric AS exact_size FROM trades) AS trade
        WHERE exchange = %(exchange)s AND symbol = %(symbol)s
            AND timestamp >= %(from)s AND timestamp < %(to)s
        GROUP BY 1
    ), summed_minutes AS MATERIALIZED (
        SELECT *, (sum(buy_volume - sell_volume) OVER day)::float8 AS cvd_close
        FROM minutes
        WINDOW day AS (PARTITION BY date_bin('1 day', minute, 'epoch') ORDER BY minute)
    )
""")
"""Each minute's trades, sums as numerics, with the CVD after its last trade. Parameters: up to `to`."""

BOOK_MINUTES = sql.SQL("""
    book_minutes AS (
        SELECT date_bin('1 minute', timestamp, 'epoch') AS minute,
            sum(imbalance::text::numeric) AS imbalance,
            last(imbalance, timestamp) AS imbalance_last,
            sum(spread_bps::text::numeric) AS spread_bps,
            count(*) AS snapshot_count
        FROM orderbook_snapshots
        WHERE exchange = %(exchange)s AND symbol = %(symbol)s
            AND timestamp >= %(from)s AND timestamp < %(to)s
        GROUP BY 1
    )
""")
"""Each minute's book snapshots, sums as numerics. Parameters: up to `to`."""

_CANDLES = sql.SQL("""
    frames (interval, length) AS (
        VALUES ('1m', '1 minute'::interval), ('5m', '5 minutes'), ('15m', '15 minutes'), ('1h', '1 hour'),
            ('4h', '4 hours'), ('1d', '1 day')
    ), traded AS (
        SELECT interval, length, date_bin(length, minute, 'epoch') AS timestamp,
            first(open, minute) AS open,
            max(high) AS high,
            min(low) AS low,
            last(close, minute) AS close,
            sum(trade_count) AS trade_count,
            sum(volume) AS volume,
            sum(buy_volume) AS buy_volume,
            sum(sell_volume) AS sell_volume,
            sum(notional) AS notional,
            last(cvd_close, minute) AS cvd_close
        FROM summed_minutes CROSS JOIN frames
        GROUP BY 1, 2, 3
    ), covered AS (
        -- Every minute that lies wholly inside coverage.
        SELECT minute, from_timestamp, to_timestamp
        FROM islands, generate_series(
            date_bin('1 minute', greatest(from_timestamp, %(from)s) + '59.999999 s', 'epoch'),
            least(to_timestamp, %(to)s) - '1 minute'::interval, '1 minute') AS minute
    ), runs AS (
        -- A run is a minute with trades and the quiet ones after it.
        SELECT *, count(close) OVER (ORDER BY minute) AS run
        FROM covered FULL JOIN summed_minutes USING (minute)
    ), quiet AS (
        SELECT minute, from_timestamp, to_timestamp, trade_count IS NULL AS is_quiet,
            coalesce(first_value(close) OVER same, %(carry_price)s) AS price,
            coalesce(first_value(last_time) OVER same, %(carry_time)s) AS last_time,
            first_value(cvd_close) OVER same AS cvd_close
        FROM runs
        WINDOW same AS (PARTITION BY run ORDER BY minute)
    ), flat AS (
        SELECT interval, length, minute AS timestamp, price,
            CASE WHEN last_time >= date_bin('1 day', minute, 'epoch') THEN cvd_close ELSE 0 END AS cvd_close
        FROM quiet CROSS JOIN frames
        WHERE is_quiet AND minute = date_bin(length, minute, 'epoch')
            AND minute >= from_timestamp AND minute + length <= least(to_timestamp, %(closed)s)
            AND last_time >= from_timestamp
            AND NOT EXISTS (
                SELECT FROM traded WHERE traded.interval = frames.interval AND traded.timestamp = minute)
    ), books AS (
        SELECT interval, date_bin(length, minute, 'epoch') AS timestamp,
            (sum(imbalance) / sum(snapshot_count))::float8 AS imbalance_mean,
            last(imbalance_last, minute) AS imbalance_last,
            (sum(spread_bps) / sum(snapshot_count))::float8 AS spread_bps_mean,
            sum(snapshot_count)::bigint AS snapshot_count
        FROM book_minutes CROSS JOIN frames
        GROUP BY 1, 2
    ), placed AS (
        SELECT interval, length, timestamp, open, high, low, close, volume::float8, buy_volume::float8,
            sell_volume::float8, (notional / volume)::float8 AS vwap, trade_count::bigint, cvd_close
        FROM traded
        UNION ALL
        SELECT interval, length, timestamp, price, price, price, price, 0, 0, 0, NULL, 0, cvd_close
        FROM flat
    ), stored AS (
        SELECT * FROM candles
        WHERE exchange = %(exchange)s AND symbol = %(symbol)s
            AND timestamp >= %(from)s AND timestamp < %(to)s
    ), seen AS (
        SELECT * FROM books WHERE date_bin('1 day', timestamp, 'epoch') <> ALL (%(bookless)s::timestamptz[])
        UNION ALL
        SELECT interval, timestamp, imbalance_mean, imbalance_last, spread_bps_mean, snapshot_count
        FROM stored
        WHERE date_bin('1 day', timestamp, 'epoch') = ANY (%(bookless)s::timestamptz[])
    ), wanted AS (
        SELECT placed.*, imbalance_mean, imbalance_last, spread_bps_mean,
            coalesce(snapshot_count, 0) AS snapshot_count,
            timestamp + length <= %(closed)s AS is_closed,
            timestamp + length <= %(closed)s AND EXISTS (
                SELECT FROM islands
                WHERE from_timestamp <= timestamp AND timestamp + length <= to_timestamp) AS is_whole,
            'trades' AS source
        FROM placed LEFT JOIN seen USING (interval, timestamp)
    )
""")

_CVD = sql.SQL("""
    steps AS MATERIALIZED (
        -- The trades of 10 s, under the time of the point after them.
        SELECT date_bin('10 s', timestamp, 'epoch') + '10 s' AS timestamp, min(timestamp) AS first_time,
            sum(CASE side
                WHEN 'buy' THEN size::text::numeric WHEN 'sell' THEN -size::text::numeric ELSE 0 END) AS delta
        FROM trades
        WHERE exchange = %(exchange)s AND symbol = %(symbol)s
            AND timestamp >= %(from)s AND timestamp < %(to)s
        GROUP BY 1
    ), due AS (
        SELECT timestamp, true AS is_due
        FROM islands, generate_series(
            date_bin('10 s', greatest(from_timestamp, %(from)s), 'epoch') + '10 s',
            least(to_timestamp, %(to)s, %(settled)s), '10 s') AS timestamp
    ), days AS (
        -- A point at 00:00 closes the day before.
        SELECT *, date_bin('1 day', timestamp - '1 us'::interval, 'epoch') AS day
        FROM due FULL JOIN steps USING (timestamp)
    ), anchors AS (
        SELECT day, greatest(day, least(min(first_time), (
            SELECT min(from_timestamp) FROM islands
            WHERE from_timestamp < day + '1 day'::interval AND to_timestamp > day))) AS anchor_timestamp
        FROM days
        GROUP BY day
    ), sums AS (
        SELECT timestamp, day, is_due,
            (sum(coalesce(delta, 0)) OVER (PARTITION BY day ORDER BY timestamp))::float8 AS cvd
        FROM days
    ), wanted AS (
        SELECT timestamp, cvd,
            cvd - coalesce(lag(cvd) OVER points, 0) AS cvd_change,
            CASE WHEN row_number() OVER points >= 5
                THEN avg(cvd) OVER (points ROWS 4 PRECEDING) END AS cvd_ma_5,
            CASE WHEN row_number() OVER points >= 20
                THEN avg(cvd) OVER (points ROWS 19 PRECEDING) END AS cvd_ma_20,
            anchor_timestamp
        FROM sums JOIN anchors USING (day)
        WHERE is_due
        WINDOW points AS (PARTITION BY day ORDER BY timestamp)
    ), stored AS (
        SELECT * FROM cvd_snapshots
        WHERE exchange = %(exchange)s AND symbol = %(symbol)s
            AND timestamp > %(from)s AND timestamp <= %(to)s
    )
""")

TRADE_CHANGES = sql.SQL("""
    signed AS (
        SELECT timestamp, trade_seq, trade_id, cvd_at_trade,
            CASE side WHEN 'buy' THEN size::text::numeric WHEN 'sell' THEN -size::text::numeric ELSE 0 END
                AS delta
        FROM trades
        WHERE exchange = %(exchange)s AND symbol = %(symbol)s
            AND timestamp >= %(start_day)s AND timestamp < %(to)s
    ), summed AS (
        SELECT timestamp, trade_id, cvd_at_trade AS old_cvd_at_trade,
            (sum(delta) OVER (
                PARTITION BY date_bin('1 day', timestamp, 'epoch')
                ORDER BY timestamp, trade_seq ROWS UNBOUNDED PRECEDING
            ) + CASE WHEN timestamp < %(start_day)s + '1 day'::interval THEN
                (SELECT coalesce(sum(delta), 0) FROM signed WHERE timestamp < %(start)s) ELSE 0 END
            )::float8 AS new_cvd_at_trade
        FROM signed
        WHERE timestamp >= %(start)s
    ), changes AS MATERIALIZED (
        SELECT * FROM summed WHERE new_cvd_at_trade IS DISTINCT FROM old_cvd_at_trade
    )
""")
"""`changes` of `trades`: timestamp, trade_id, new_cvd_at_trade, old_cvd_at_trade."""


def _changes(
    key: Sequence[str], values: Sequence[str], is_kept: sql.SQL, is_same: sql.Composed, is_past: sql.SQL
) -> sql.Composed:
    """The rows of `wanted` and `stored` that differ, side by side, without those that have left."""
    sides = [
        sql.SQL("{} AS {}").format(sql.Identifier(table, column), sql.Identifier(f"{prefix}_{column}"))
        for prefix, table in (("new", "wanted"), ("old", "stored"))
        for column in values
    ]
    first = sql.Identifier(values[0])
    return sql.SQL("""
        changes AS MATERIALIZED (
            SELECT {key}, {sides}
            FROM wanted FULL JOIN stored USING ({key})
            WHERE CASE
                WHEN wanted.{first} IS NULL THEN NOT ({is_kept})
                WHEN stored.{first} IS NULL THEN true
                ELSE NOT ({is_same}) END
                AND NOT ({is_past})
        )
    """).format(
        key=names(key),
        sides=sql.SQL(", ").join(sides),
        first=first,
        is_kept=is_kept,
        is_same=is_same,
        is_past=is_past,
    )


def _same(values: Sequence[str]) -> sql.Composed:
    return sql.SQL("({}) IS NOT DISTINCT FROM ({})").format(names(values, "wanted"), names(values, "stored"))


_OTHER_VALUES = tuple(column for column in CANDLE_VALUES if column != "is_closed")

CANDLE_CHANGES = sql.SQL(", ").join(
    [
        _ISLANDS,
        MINUTES,
        BOOK_MINUTES,
        _CANDLES,
        _changes(
            ("interval", "timestamp"),
            CANDLE_VALUES,
            # What others gave stays; and a candle that was closed is never open again.
            sql.SQL("stored.source <> 'trades'"),
            _same(_OTHER_VALUES) + sql.SQL(" AND (stored.is_closed OR NOT wanted.is_closed)"),
            sql.SQL("""
                (interval, date_bin('1 day', timestamp, 'epoch')) IN (
                    SELECT * FROM unnest(%(past_intervals)s::text[], %(past_candles)s::timestamptz[]))
            """),
        ),
    ]
)
"""`changes` of `candles`: interval, timestamp, and both sides of `CANDLE_VALUES`."""

CVD_CHANGES = sql.SQL(", ").join(
    [
        _ISLANDS,
        _CVD,
        _changes(
            ("timestamp",),
            CVD_VALUES,
            sql.SQL("false"),
            _same(CVD_VALUES),
            sql.SQL("date_bin('1 day', timestamp, 'epoch') = ANY (%(pointless)s::timestamptz[])"),
        ),
    ]
)
"""`changes` of `cvd_snapshots`: timestamp, and both sides of `CVD_VALUES`."""
