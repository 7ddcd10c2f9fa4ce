"""Raw columns of any file, as texts or typed, to checked rows of trades, candles and changes of a book.

A row that cannot be one has a `reason`; nothing is guessed or repaired.
"""

from collections.abc import Callable, Mapping
from typing import Literal

import polars as pl

from market import Timeframe, WrongUse

Unit = Literal["s", "ms", "us", "ns", "iso"]
UNITS: tuple[Unit, ...] = ("s", "ms", "us", "ns", "iso")
TRADE_FIELDS = (
    "timestamp",
    "price",
    "size",
    "side",
    "is_buyer_maker",
    "trade_id",
    "first_fill",
    "last_fill",
    "received",
    "symbol",
)
CANDLE_FIELDS = (
    "timestamp",
    "open",
    "high",
    "low",
    "close",
    "volume",
    "buy_volume",
    "trade_count",
    "symbol",
)
CHANGE_FIELDS = ("timestamp", "price", "size", "side", "is_snapshot", "received", "symbol")
_NUMERIC = r"^\d+(\.\d*)?$"
_DIGITS: dict[Unit, int] = {"s": 6, "ms": 3, "us": 0, "ns": -3}
"""How many decimals of the unit a microsecond is."""
_BOUNDS: tuple[tuple[float, Unit], ...] = ((1e11, "s"), (1e14, "ms"), (1e17, "us"))
"""Below which number a time is in which unit: each fits times from 1973 to beyond 5000."""
_LATEST = 4_102_444_800_000_000
"""2100-01-01 in microseconds UTC: no time of a trade is later."""
_TRUE, _FALSE = ["true", "1"], ["false", "0"]
_BUY, _SELL, _NONE = ["buy", "b", "bid"], ["sell", "s", "ask"], ["", "unknown", "none", "null", "nan"]


def trades(raw: pl.DataFrame, fields: Mapping[str, str], units: Mapping[str, Unit | None]) -> pl.DataFrame:
    """Trades of `raw`, which has a `line` beside the file's columns.

    Args:
        raw: the file's columns, texts or typed.
        fields: which of them holds which of TRADE_FIELDS; timestamp, price and size must be there.
        units: of `timestamp` and `received`, where the number of digits is not to say it.

    Returns:
        line, symbol, timestamp (µs), trade_id, price, size, side, fill_count, received (µs), reason.
    """
    times = {
        name: _time(raw, fields[name], units.get(name)) if name in fields else pl.lit(None, pl.Int64)
        for name in ("timestamp", "received")
    }
    found = raw.select(
        "line",
        _optional(raw, fields, "symbol").alias("symbol"),
        times["timestamp"].alias("timestamp"),
        _optional(raw, fields, "trade_id").replace("", None).alias("trade_id"),
        _number(raw, fields["price"]).alias("price"),
        _number(raw, fields["size"]).alias("size"),
        _side(raw, fields).alias("side"),
        _fills(raw, fields).alias("fill_count"),
        times["received"].alias("received"),
        reason=pl.lit(None, pl.String),
    )
    shown = {name: _text(raw, fields[name]) for name in ("timestamp", "price", "size")}
    side = _text(raw, fields.get("side") or fields.get("is_buyer_maker") or fields["price"])
    return _refuse(
        found.with_columns(raw.select(shown[name].alias(f"raw_{name}") for name in shown)).with_columns(
            raw.select(side.alias("raw_side"))
        ),
        [
            (_is_no_time("timestamp"), "not a time", "raw_timestamp"),
            (_is_no_amount("price") | (pl.col("price") == 0), "not a price", "raw_price"),
            (_is_no_amount("size") | (pl.col("size") == 0), "not a size", "raw_size"),
            (pl.col("side") == "?", "not a side", "raw_side"),
            (pl.col("fill_count").is_null() | (pl.col("fill_count") < 1), "not a range of fills", "raw_size"),
        ],
    )


def candles(
    raw: pl.DataFrame, fields: Mapping[str, str], unit: Unit | None, timeframe: Timeframe, now: int
) -> pl.DataFrame:
    """Closed candles of `raw`, which has a `line` beside the file's columns.

    Args:
        raw: the file's columns, texts or typed.
        fields: which of them holds which of CANDLE_FIELDS; all up to `volume` must be there.
        unit: of `timestamp`, where the number of digits is not to say it.
        timeframe: how long each is.
        now: microseconds UTC; what ends later is not closed.

    Returns:
        line, symbol, timestamp (µs), open, high, low, close, volume, buy_volume, trade_count, reason.
    """
    numbers = ("open", "high", "low", "close", "volume")
    found = raw.select(
        "line",
        _optional(raw, fields, "symbol").alias("symbol"),
        _time(raw, fields["timestamp"], unit).alias("timestamp"),
        *(_number(raw, fields[name]).alias(name) for name in numbers),
        (_number(raw, fields["buy_volume"]) if "buy_volume" in fields else pl.lit(None, pl.Float64)).alias(
            "buy_volume"
        ),
        _optional(raw, fields, "trade_count").cast(pl.Int64, strict=False).alias("trade_count"),
        _text(raw, fields["timestamp"]).alias("raw_timestamp"),
        _text(raw, fields["volume"]).alias("raw_volume"),
        raw_prices=pl.concat_str([_text(raw, fields[name]) for name in numbers[:4]], separator=" "),
        reason=pl.lit(None, pl.String),
    )
    length = timeframe.microseconds
    top, bottom = pl.max_horizontal("open", "close"), pl.min_horizontal("open", "close")
    is_no_price = pl.any_horizontal(_is_no_amount(name) | (pl.col(name) == 0) for name in numbers[:4])
    return _refuse(
        found,
        [
            (_is_no_time("timestamp"), "not a time", "raw_timestamp"),
            (pl.col("timestamp") % length != 0, f"a {timeframe} candle does not open at", "raw_timestamp"),
            (pl.col("timestamp") + length > now, "not closed yet", "raw_timestamp"),
            (is_no_price, "not prices", "raw_prices"),
            (
                (pl.col("high") < top) | (pl.col("low") > bottom),
                "not open, high, low, close",
                "raw_prices",
            ),
            (_is_no_amount("volume"), "not a volume", "raw_volume"),
            (~pl.col("buy_volume").is_between(0, pl.col("volume")), "buys beyond the volume", "raw_volume"),
            (pl.col("trade_count") < 0, "fewer trades than none", "raw_timestamp"),
        ],
    )


def changes(raw: pl.DataFrame, fields: Mapping[str, str], units: Mapping[str, Unit | None]) -> pl.DataFrame:
    """Levels of an order book as they changed, of `raw`, which has a `line` beside the file's columns.

    Args:
        raw: the file's columns, texts or typed.
        fields: which of them holds which of CHANGE_FIELDS; all up to `is_snapshot` must be there.
        units: of `timestamp` and `received`, where the number of digits is not to say it.

    Returns:
        line, symbol, timestamp (µs), received (µs; the timestamp where there is none), price, size (what the
        level holds now), side (1 of a bid, -1 of an ask), is_snapshot, reason.
    """
    side = _side(raw, fields)
    flag = _text(raw, fields["is_snapshot"]).str.to_lowercase()
    received = "received" if "received" in fields else "timestamp"
    found = raw.select(
        "line",
        _optional(raw, fields, "symbol").alias("symbol"),
        _time(raw, fields["timestamp"], units.get("timestamp")).alias("timestamp"),
        _time(raw, fields[received], units.get(received)).alias("received"),
        _number(raw, fields["price"]).alias("price"),
        _number(raw, fields["size"]).alias("size"),
        pl.when(side == "buy").then(1).when(side == "sell").then(-1).cast(pl.Int8).alias("side"),
        pl.when(flag.is_in(_TRUE)).then(True).when(flag.is_in(_FALSE)).then(False).alias("is_snapshot"),
        *(_text(raw, fields[name]).alias(f"raw_{name}") for name in CHANGE_FIELDS[:5]),
        raw_received=_text(raw, fields[received]),
        reason=pl.lit(None, pl.String),
    )
    return _refuse(
        found,
        [
            (_is_no_time("timestamp"), "not a time", "raw_timestamp"),
            (_is_no_time("received"), "not a time", "raw_received"),
            (_is_no_amount("price") | (pl.col("price") == 0), "not a price", "raw_price"),
            (_is_no_amount("size"), "not a size", "raw_size"),
            (pl.col("side").is_null(), "not a side", "raw_side"),
            (pl.col("is_snapshot").is_null(), "neither true nor false", "raw_is_snapshot"),
        ],
    )


def _refuse(found: pl.DataFrame, checks: list[tuple[pl.Expr, str, str]]) -> pl.DataFrame:
    """With the first reason, if any, why each row is none; the raw texts are left out."""
    told = [
        pl.when(is_wrong).then(pl.format(f"{words}: {{}}", pl.col(shown).fill_null("nothing").str.head(60)))
        for is_wrong, words, shown in checks
    ]
    reasons = pl.coalesce([pl.col("reason"), *(each.otherwise(None) for each in told)])
    return found.with_columns(reason=reasons).select(pl.exclude(r"^raw_.*$"))


def _is_no_time(name: str) -> pl.Expr:
    return ~pl.col(name).is_between(0, _LATEST).fill_null(False)


def _is_no_amount(name: str) -> pl.Expr:
    return ~(pl.col(name).is_finite() & (pl.col(name) >= 0)).fill_null(False)


def _text(raw: pl.DataFrame, name: str) -> pl.Expr:
    column = pl.col(name)
    return column.str.strip_chars(' "\r') if raw.schema[name] == pl.String else column.cast(pl.String)


def _optional(raw: pl.DataFrame, fields: Mapping[str, str], name: str) -> pl.Expr:
    return _text(raw, fields[name]) if name in fields else pl.lit(None, pl.String)


def _number(raw: pl.DataFrame, name: str) -> pl.Expr:
    """The nearest double; null for what is no number."""
    column = _text(raw, name) if raw.schema[name] == pl.String else pl.col(name)
    return column.cast(pl.Float64, strict=False)


def _side(raw: pl.DataFrame, fields: Mapping[str, str]) -> pl.Expr:
    """The aggressor: buy, sell, null where the file does not say; "?" for what is none of these."""
    if "is_buyer_maker" in fields:
        maker = _text(raw, fields["is_buyer_maker"]).str.to_lowercase()
        # Where the buyer was there first, the seller is the aggressor.
        buy, sell, none = maker.is_in(_FALSE), maker.is_in(_TRUE), maker.is_null()
    elif "side" in fields:
        side = _text(raw, fields["side"]).str.to_lowercase()
        buy, sell, none = side.is_in(_BUY), side.is_in(_SELL), side.is_null() | side.is_in(_NONE)
    else:
        return pl.lit(None, pl.String)
    return (
        pl.when(none)
        .then(None)
        .when(buy)
        .then(pl.lit("buy"))
        .when(sell)
        .then(pl.lit("sell"))
        .otherwise(pl.lit("?"))
    )


def _fills(raw: pl.DataFrame, fields: Mapping[str, str]) -> pl.Expr:
    if "first_fill" not in fields or "last_fill" not in fields:
        return pl.lit(1, pl.Int64)
    first, last = (_text(raw, fields[n]).cast(pl.Int64, strict=False) for n in ("first_fill", "last_fill"))
    return last - first + 1


def _time(raw: pl.DataFrame, name: str, unit: Unit | None) -> pl.Expr:
    """Microseconds UTC, finer digits cut off; null for what is no time."""
    kind = raw.schema[name]
    column = pl.col(name)
    if isinstance(kind, pl.Datetime):
        aware = column.dt.convert_time_zone("UTC") if kind.time_zone else column
        return aware.dt.epoch("us")
    if kind == pl.Date:
        return column.cast(pl.Datetime("us")).dt.epoch("us")
    if kind.is_float():
        return _by_unit(
            column, unit, lambda one: (column * 10.0 ** _DIGITS[one]).round(0).cast(pl.Int64, strict=False)
        )
    if kind.is_integer():
        whole = column.cast(pl.Int64, strict=False)
        return _by_unit(whole, unit, lambda one: _scaled(whole, one))
    if kind != pl.String:
        raise WrongUse(f"the column {name!r} holds no times but {kind}")
    text = _text(raw, name)
    if unit == "iso" or (unit is None and not _looks_numeric(raw[name])):
        return _iso(text)
    whole = text.str.extract(r"^(\d+)(?:\.\d*)?$").cast(pl.Int64, strict=False)
    fraction = text.str.extract(r"\.(\d*)$").fill_null("") + "000000"
    return _by_unit(
        whole,
        unit,
        lambda one: (
            _scaled(whole, one)
            + (fraction.str.head(max(_DIGITS[one], 0)).cast(pl.Int64, strict=False).fill_null(0))
        ),
    )


def _looks_numeric(column: pl.Series) -> bool:
    first = column.drop_nulls().head(1).str.strip_chars(' "\r')
    return bool(first.str.contains(_NUMERIC).any()) or first.is_empty()


def _scaled(whole: pl.Expr, unit: Unit) -> pl.Expr:
    digits = _DIGITS[unit]
    factor: int = 10 ** abs(digits)
    return whole * factor if digits >= 0 else whole // factor


def _by_unit(value: pl.Expr, unit: Unit | None, convert: Callable[[Unit], pl.Expr]) -> pl.Expr:
    if unit is not None:
        return convert(unit)
    found = convert("ns")
    for bound, each in reversed(_BOUNDS):
        found = pl.when(value < bound).then(convert(each)).otherwise(found)
    return found


def _iso(text: pl.Expr) -> pl.Expr:
    plain = text.str.replace("T", " ", literal=True).str.replace(r"(Z|\+00:?00| UTC)$", "")
    times = plain.str.to_datetime("%Y-%m-%d %H:%M:%S%.f", time_unit="us", strict=False)
    days = plain.str.to_datetime("%Y-%m-%d", time_unit="us", strict=False)
    return pl.coalesce(times, days).dt.epoch("us")
