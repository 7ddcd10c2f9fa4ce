import calendar
import re
from html.parser import HTMLParser

import numpy as np
import polars as pl
import pytest
from tapes import random_frame

from backtest.doors import backtest
from backtest.report import html, of_result
from backtest.svg import Dots, Line, chart
from market import Timeframe, WrongUse

EMPTY = {"meta", "path", "rect"}


class Page(HTMLParser):
    """Refuses tags that are not closed in order, and keeps titles, texts and attributes."""

    def __init__(self, text):
        super().__init__()
        self.open, self.texts, self.attributes = [], [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.attributes += attributes
        assert tag != "script"
        if tag not in EMPTY:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.attributes += attributes

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)

    @property
    def text(self):
        return " ".join(self.texts)


def page_of(result):
    return Page(html(of_result(result)))


def test_a_report_shows_everything_and_loads_nothing(real_frame):
    result = backtest(real_frame, "trend", stop=0.02, exchange="binance", symbol="ETH/BTC")
    page = page_of(result)
    titles = ["No candle is missing", "Figures", "Equity", "Drawdown", "Fills on the price", "Months"]
    places = [page.text.index(title) for title in [*titles, "Fills by source", "Profit by reason", "Origin"]]
    assert places == sorted(places)
    for said in ("Sharpe", "Omega", "2018-01", "next_open", "entry: ema_trend", "exit: stop_loss"):
        assert said in page.text, said
    assert f"{result.metrics.total_trades:,}" in page.text
    assert not [value for name, value in page.attributes if name in ("src", "href")]
    assert not re.search(r"url\(|@import|https?://", html(of_result(result)))


def test_holes_come_first(holey_frame):
    result = backtest(holey_frame, "ema_cross")
    page = page_of(result)
    assert 0 < page.text.index("Candles are missing in 538 places.") < page.text.index("Figures")
    assert "hole" in {value for name, value in page.attributes if name == "class"}


def test_candles_that_are_not_proven_are_said():
    frame = random_frame(100)
    frame.is_whole[:7] = False
    assert "7 candles are not proven whole" in page_of(backtest(frame, "ema_cross")).text


def test_names_cannot_break_the_page(frame):
    result = backtest(frame, "ema_cross", exchange="<script>", symbol='A&B/"C')
    assert "<script>" in page_of(result).text


@pytest.mark.parametrize("count", [1, 2, 300])
def test_a_run_without_a_trade(count):
    page = page_of(backtest(random_frame(300).part(0, count), np.zeros(count), timeframe="1m"))
    assert page.text.count("nothing was filled") == 2
    assert "no position was opened" in page.text


def test_many_trades_are_thinned_out():
    frame = random_frame(60_000, timeframe=Timeframe.M5)
    entries = np.arange(60_000) % 6 == 0
    result = backtest(frame, entries, np.roll(entries, 3))
    assert len(result.fills) == 20_000
    text = html(of_result(result))
    assert len(text) < 200_000
    assert "150 of 10,000 shown" in text


def test_dots_lie_where_they_belong():
    times = np.array([0, 1_000_000], dtype=np.int64)
    drawn = chart([Line("a", "a", times, np.array([1.0, 3.0]))], [Dots("b", "b", times[1:], np.array([2.0]))])
    (place,) = re.findall(r'dots b" d="M([\d.]+) ([\d.]+)h0"', drawn)
    assert place == ("1000.0", "50.00")


def test_the_file_is_written_whole_or_not_at_all(frame, tmp_path):
    result = backtest(frame, "ema_cross")
    path = result.report(tmp_path / "new" / "report.html")
    assert path.read_text() == html(of_result(result))
    assert [each.name for each in path.parent.iterdir()] == ["report.html"]
    (tmp_path / "file").write_text("")
    with pytest.raises(WrongUse, match="cannot write"):
        result.report(tmp_path / "file" / "report.html")


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_exported_files_hold_the_tables(form, real_frame, tmp_path):
    result = backtest(real_frame, "ema_cross", stop=0.02)
    paths = {path.stem: path for path in result.export(tmp_path / "out", form)}
    assert set(paths) == {"fills", "positions", "equity", "days", "months", "reasons", "metrics"}
    if form == "parquet":
        assert pl.read_parquet(paths["positions"]).equals(result.positions)
    else:
        read = pl.read_csv(paths["fills"], try_parse_dates=True)
        assert read["price"].to_list() == result.fills["price"].to_list()
        assert (
            read["timestamp"].dt.timestamp("us").to_list()
            == result.fills["timestamp"].dt.timestamp("us").to_list()
        )
    assert '"sharpe_ratio"' in paths["metrics"].read_text()


def test_another_format_is_refused(frame, tmp_path):
    with pytest.raises(WrongUse, match="use parquet or csv"):
        backtest(frame, "ema_cross").export(tmp_path, "xlsx")


def test_months_are_a_grid_of_years():
    begin = 1_762_300_800_000_000  # 2025-11-05
    frame = random_frame(100, timeframe=Timeframe.D1)
    table = {name: frame.column(name) for name in ("open", "high", "low", "close", "volume")}
    result = backtest(
        table | {"timestamp": begin + np.arange(100) * 86_400_000_000}, "ema_cross", fast=2, slow=5
    )
    text = html(of_result(result))
    grid = text[text.index("Months, return in percent") : text.index("Fills by source")]
    rows = [re.sub(r"<[^>]+>", "|", row) for row in re.findall(r"<tr>(.*?)</tr>", grid)]
    cells = [[cell for cell in row.split("|") if cell] for row in rows]
    assert cells[0] == [*calendar.month_abbr[1:], "year"]
    assert [(row[0], len(row)) for row in cells[1:]] == [("2025", 4), ("2026", 4)]
    months = dict(
        zip(result.months["timestamp"].dt.strftime("%Y-%m"), result.months["return_pct"], strict=True)
    )
    assert cells[1][1:3] == [f"{months['2025-11']:+.2f}", f"{months['2025-12']:+.2f}"]
    whole = (1 + months["2025-11"] / 100) * (1 + months["2025-12"] / 100) - 1
    assert float(cells[1][3]) == pytest.approx(100 * whole, abs=0.005)
