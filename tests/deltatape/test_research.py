"""`import deltatape as dt`, and that docs/research.md says what it does."""

import re
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from polars.testing import assert_frame_equal
from streaming import EXCHANGE, SECOND, SYMBOL, Span, Streaming, random_trade

import deltatape as dt
from deltatape import backtests, research
from market import DAY, Trade, WrongUse, parse_time
from storage.database import Connection

PAGE = (Path(__file__).parents[2] / "docs" / "research.md").read_text()
EXAMPLES = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
BEGIN = parse_time("2026-03-01")
END = BEGIN + 2 * DAY
FIRST, SECOND_DAY = date(2026, 3, 1), date(2026, 3, 2)


@pytest.fixture
def trades(
    connection: Connection, database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> list[Trade]:
    """Two days of trades on the tape that `dt` reads."""
    random = Random(3)
    trades = [random_trade(random, moment, moment) for moment in range(BEGIN, END, 97 * SECOND)]
    Streaming().run([Span(trades, END)], []).write(connection)
    connection.commit()
    monkeypatch.setenv("DELTATAPE_DATABASE_URL", database)
    monkeypatch.setenv("DELTATAPE_HOME", str(tmp_path))
    monkeypatch.setattr(research, "_url", lambda: database)
    return trades


def test_the_examples_of_the_page_run(trades: list[Trade]) -> None:
    names: dict[str, Any] = {}
    for example in EXAMPLES:
        exec(example.replace("binance", EXCHANGE), names)
    first = [trade for trade in trades if trade.timestamp < BEGIN + DAY]
    assert names["trades"]["trade_id"].to_list() == [trade.trade_id for trade in first]
    assert names["volume"] == pytest.approx(sum(trade.size for trade in trades))
    assert names["candles"]["timestamp"].diff().drop_nulls().unique().to_list() == [timedelta(hours=2)]
    assert set(names["whole"]["interval"]) == {"3m"}
    assert names["opened"][0] == BEGIN
    assert np.isfinite(names["returns"]).all()


def test_the_page_names_every_reader() -> None:
    (table,) = re.findall(r"\| reader \|.*?\n\n", PAGE, re.DOTALL)
    assert set(re.findall(r"`dt\.(\w+)`", table)) == set(research.__all__)


def test_a_notebook_offers_the_readers() -> None:
    assert {"trades", "candles", "arrays", "backtest"} <= set(dir(dt))
    assert {*research.__all__, *backtests.__all__} <= set(dir(dt))


def test_a_time_may_be_written_in_many_ways(trades: list[Trade]) -> None:
    expected = dt.trades(EXCHANGE, SYMBOL, "2026-03-01", "2026-03-02T06:00:00Z")
    assert 0 < len(expected) < len(trades)
    moment = datetime(2026, 3, 2, 6, tzinfo=UTC)
    for start, end in (
        (FIRST, moment),
        ("2026-03-01T00:00:00Z", moment.replace(tzinfo=None)),
        (BEGIN, np.int64(BEGIN + DAY + DAY // 4)),
    ):
        assert_frame_equal(dt.trades(EXCHANGE, SYMBOL, start, end), expected)
        assert len(dt.candles(EXCHANGE, SYMBOL, "1h", start, end)) == 30
    last = expected["timestamp"].max()
    assert dt.trades(EXCHANGE, SYMBOL, last, limit=1)["timestamp"][0] > last
    with pytest.raises(TypeError):
        dt.candles(EXCHANGE, SYMBOL, "1h", 1.5)
    with pytest.raises(WrongUse):
        dt.candles(EXCHANGE, SYMBOL, "1h", "soon")


def test_arrays_have_times_in_microseconds_and_nan_for_null(trades: list[Trade]) -> None:
    found = dt.arrays(dt.trades(EXCHANGE, SYMBOL))
    assert found["timestamp"].dtype == np.int64
    assert found["timestamp"].tolist() == [trade.timestamp for trade in trades]
    assert found["price"].tolist() == [trade.price for trade in trades]
    assert found["trade_id"].tolist() == [trade.trade_id for trade in trades]
    candles = dt.candles(EXCHANGE, SYMBOL, "1m", FIRST, SECOND_DAY)
    assert 0 < candles["vwap"].null_count() < len(candles)
    columns = dt.arrays(candles)
    assert np.isnan(columns["vwap"]).tolist() == candles["vwap"].is_null().to_list()
    assert np.isnan(columns["imbalance_mean"]).all()
    assert columns["is_whole"].dtype == np.bool_
