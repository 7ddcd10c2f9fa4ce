"""Candles of any timeframe: what is not stored is made of what is."""

from random import Random

import polars as pl
import pytest
from polars.testing import assert_frame_equal
from streaming import (
    EXCHANGE,
    HOUR,
    MIDNIGHT,
    MINUTE,
    SECOND,
    SYMBOL,
    Span,
    Streaming,
    random_book,
    random_trade,
)

from market import DAY, Timeframe, WrongUse
from storage import read
from storage.database import Connection
from storage.resample import Buckets, resample


@pytest.fixture
def tape(connection: Connection, database: str) -> str:
    """Two days of trades every minute or so, with a hole of some hours and a book now and then."""
    random = Random(7)
    spans = [
        Span([random_trade(random, moment, moment) for moment in range(begin, end, 47 * SECOND)], end)
        for begin, end in (
            (MIDNIGHT - 30 * HOUR, MIDNIGHT - 2 * HOUR),
            (MIDNIGHT + HOUR + 90 * SECOND, MIDNIGHT + 20 * HOUR + 4 * MINUTE),
        )
    ]
    # None in the hole, where there are no minutes that could hold it.
    books = [
        random_book(random, moment)
        for span in spans
        for moment in range(span.begin // MINUTE * MINUTE + MINUTE, span.until, 191 * SECOND)
    ]
    Streaming().run(spans, books).write(connection)
    connection.commit()
    return database


def stored(
    url: str, timeframe: str, start: int | None = None, end: int | None = None, limit: int | None = None
) -> pl.DataFrame:
    return read.candles(url, EXCHANGE, SYMBOL, timeframe, start, end, limit, closed_only=False)


@pytest.mark.parametrize("timeframe", [Timeframe.M5, Timeframe.M15, Timeframe.H1, Timeframe.H4, Timeframe.D1])
def test_what_is_made_equals_what_is_stored(tape: str, timeframe: Timeframe) -> None:
    minutes = stored(tape, "1m")
    buckets = Buckets(timeframe, timeframe.microseconds, 0, Timeframe.M1)
    newest = minutes["timestamp"].to_physical()[-1]
    made, kept = resample(minutes, buckets, newest), stored(tape, timeframe)
    exact = [name for name in kept.columns if kept[name].dtype != pl.Float64 or name in _EXACT]
    unsettled = ["is_whole", "is_closed"]
    assert_frame_equal(made.select(exact).drop(unsettled), kept.select(exact).drop(unsettled))
    assert_frame_equal(made.drop(unsettled), kept.drop(unsettled), check_exact=False, rel_tol=1e-9)
    # The tape begins and ends within a candle.
    assert_frame_equal(made[1:-1].select(unsettled), kept[1:-1].select(unsettled))


_EXACT = ("open", "high", "low", "close", "cvd_close", "imbalance_last")


@pytest.mark.parametrize(
    ("timeframe", "base", "length"), [("3m", "1m", 3), ("2h", "1h", 120), ("45m", "15m", 45)]
)
def test_a_timeframe_that_is_not_stored(tape: str, timeframe: str, base: str, length: int) -> None:
    assert Buckets.parse(timeframe).base == base
    made, minutes = stored(tape, timeframe), stored(tape, "1m")
    assert set(made["interval"]) == {timeframe}
    assert (made["timestamp"].to_physical() % (length * MINUTE)).to_list() == [0] * len(made)
    assert made["trade_count"].sum() == minutes["trade_count"].sum()
    assert made["high"].max() == minutes["high"].max()
    spans: list[tuple[int | None, int | None, int | None]] = [
        (None, None, 5),
        (MIDNIGHT + 7, None, None),
        (None, MIDNIGHT + 7, 3),
        (MIDNIGHT, MIDNIGHT + HOUR * 6, None),
    ]
    for start, end, limit in spans:
        opens = made["timestamp"].to_physical()
        wanted = made.filter((opens >= (start or 0)) & (opens < (end or DAY * 50_000)))
        found = stored(tape, timeframe, start=start, end=end, limit=limit)
        assert_frame_equal(found, wanted.tail(limit) if limit else wanted)


def test_weeks_begin_on_mondays_and_the_open_one_is_left_out(tape: str) -> None:
    frame = stored(tape, "1w")
    assert [moment.weekday() for moment in frame["timestamp"]] == [0] * len(frame)
    assert not frame["is_closed"][-1]
    assert len(read.candles(tape, EXCHANGE, SYMBOL, "1w")) == len(frame) - 1


def test_a_part_that_is_missing_leaves_it_unwhole() -> None:
    minutes = pl.DataFrame(
        {
            "timestamp": pl.Series([0, 2 * MINUTE, 3 * MINUTE], dtype=pl.Datetime("us", "UTC")),
            "exchange": "x",
            "symbol": "A/B",
            "interval": "1m",
            "open": [1.0, 3.0, 4.0],
            "high": [1.0, 3.0, 4.0],
            "low": [1.0, 3.0, 4.0],
            "close": [1.0, 3.0, 4.0],
            "volume": [2.0, 1.0, 1.0],
            "buy_volume": pl.Series([None, 1.0, None], dtype=pl.Float64),
            "sell_volume": pl.Series([None, None, None], dtype=pl.Float64),
            "vwap": [1.0, 4.0, None],
            "trade_count": [1, 1, 0],
            "cvd_close": [0.0, 0.0, 0.0],
            "imbalance_mean": [10.0, -20.0, None],
            "imbalance_last": [10.0, -20.0, None],
            "spread_bps_mean": pl.Series([None, None, None], dtype=pl.Float64),
            "snapshot_count": [1, 2, 0],
            "is_closed": True,
            "is_whole": True,
            "revised": 0,
            "source": ["trades", "exchange", "trades"],
        }
    )
    first, second = resample(minutes, Buckets.parse("3m"), 3 * MINUTE).to_dicts()
    assert (first["is_whole"], first["is_closed"], first["source"]) == (False, True, "mixed")
    assert (first["open"], first["close"], first["volume"], first["vwap"]) == (1.0, 3.0, 3.0, 2.0)
    assert (first["buy_volume"], first["sell_volume"]) == (1.0, None)
    assert (first["imbalance_mean"], first["imbalance_last"], first["snapshot_count"]) == (-10.0, -20.0, 3)
    assert (second["is_closed"], second["vwap"], second["imbalance_mean"]) == (False, None, None)


@pytest.mark.parametrize("text", ["", "m", "0m", "1s", "1.5h", "-3m", "1M", "99999m", "1m "])
def test_no_timeframe_is_refused(text: str) -> None:
    with pytest.raises(WrongUse, match="write it like"):
        Buckets.parse(text)
