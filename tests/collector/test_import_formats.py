"""Files of others onto the tape: Tardis, freqtrade, and any CSV and Parquet."""

import csv
import gzip
import json
from datetime import UTC, datetime
from itertools import pairwise

import polars as pl
import pytest
from foreign_files import MINUTE, START, binance_lines, ids, stored_trades, trade_rows, write

from collector.imports.generic import parse_columns
from collector.imports.load import load
from collector.imports.source import Hints
from market import Timeframe, WrongUse
from storage.coverage import spans
from storage.holes import list_holes
from storage.rebuild import differences

# Tardis


TARDIS = "exchange,symbol,timestamp,local_timestamp,id,side,price,amount"


def test_tardis_trades_of_several_symbols(database, connection, tmp_path):
    rows = [
        f"coinbase,{name},{START + n * 1_000_001},{START + n * 1_000_001 + 5000},{50 + n // 2},"
        f"{('buy', 'sell')[n % 2]},{100 + n}.5,0.25"
        for n in range(40)
        for name in [("BTC-USD", "ETH-USD")[n % 2]]
    ]
    path = write(tmp_path / "coinbase_trades_2025-01-01_SPOT.csv.gz", rows, TARDIS)
    assert load([path], database, Hints()).counts["new_trades"] == 40
    stored = stored_trades(connection, "coinbase")
    assert stored[0] == ("50", 50, START, 100.5, 0.25, "buy", 1, START + 5000, "BTC/USD")
    assert stored[20][8] == "ETH/USD"
    for symbol in ("BTC/USD", "ETH/USD"):
        assert ids(spans(connection, "coinbase", symbol, "trades")) == [("50", "69", "ids", "import", 20)]


def test_tardis_names_and_other_data(database, connection, tmp_path):
    row = f"okex,BTC-USDT,{START + 777},{START + 5000},17,unknown,100.5,0.25"
    load([write(tmp_path / "okex.csv", [row], TARDIS)], database, Hints())
    assert stored_trades(connection, "okx") == [
        ("17", 17, START, 100.5, 0.25, None, 1, START + 5000, "BTC/USDT")
    ]
    for fifth, said in (
        ("funding_timestamp", "import the `trades` data type"),
        ("is_snapshot", "--recording"),
    ):
        with pytest.raises(WrongUse, match=said):
            load(
                [write(tmp_path / "other.csv", [row], TARDIS.replace(",id,", f",{fifth},"))],
                database,
                Hints(),
            )


# freqtrade


def test_freqtrade_candles(database, connection, shared_data):
    files = [shared_data / "candles" / f"{name}.feather" for name in ("ETH_BTC-5m", "XRP_ETH-1m")]
    with pytest.raises(WrongUse, match="of which exchange is it"):
        load(files, database, Hints())
    report = load(files, database, Hints(exchange="binance"))
    expected = {path.name: pl.read_ipc(path) for path in files}
    assert report.counts["new_candles"] == sum(frame.height for frame in expected.values())
    for symbol, frame in zip(("ETH/BTC", "XRP/ETH"), expected.values(), strict=True):
        rows = connection.execute(
            "SELECT timestamp, open, high, low, close, volume FROM candles WHERE symbol = %s ORDER BY 1",
            (symbol,),
        ).fetchall()
        assert rows == [(row[0], *row[1:]) for row in frame.iter_rows()]


def test_freqtrade_futures_and_funding(database, connection, shared_data):
    folder = shared_data / "candles"
    load([folder / "XRP_USDT_USDT-5m-futures.feather"], database, Hints(exchange="binanceusdm"))
    found = connection.execute("SELECT DISTINCT symbol, interval FROM candles").fetchall()
    assert found == [("XRP/USDT:USDT", "5m")]
    with pytest.raises(WrongUse, match="holds funding rates, not trades or candles"):
        load([folder / "XRP_USDT_USDT-8h-funding_rate.feather"], database, Hints(exchange="binanceusdm"))


def test_freqtrade_json_and_the_folder_says_the_exchange(database, connection, tmp_path):
    folder = tmp_path / "kraken"
    folder.mkdir()
    candles = [[(START + n * MINUTE) // 1000, 10, 12.5, 9, 11, 100.5] for n in range(5)]
    (folder / "BTC_USD-1m.json.gz").write_bytes(gzip.compress(json.dumps(candles).encode()))
    trades = [
        [START // 1000 - 5000 + n, str(9 + n), None, ("buy", "sell")[n % 2], 1.5, 2, 3.0] for n in range(4)
    ]
    (folder / "ETH_USD-trades.json.gz").write_bytes(gzip.compress(json.dumps(trades).encode()))
    pl.DataFrame(
        trades, schema=["timestamp", "id", "type", "side", "price", "amount", "cost"], orient="row"
    ).write_ipc(folder / "XRP_USD-trades.feather")
    report = load(sorted(folder.iterdir()), database, Hints())
    assert (report.counts["new_trades"], report.counts["new_candles"]) == (8, 5)
    rows = stored_trades(connection, "kraken")
    assert [row[:7] for row in rows[:4]] == [row[:7] for row in rows[4:]]
    assert rows[0] == ("9", 9, START - 5_000_000, 1.5, 2.0, "buy", 1, None, "ETH/USD")
    (folder / "BTC_USD-5m.json.gz").write_bytes(b"\x1f\x8bjunk")
    with pytest.raises(WrongUse, match="cut or damaged"):
        load([folder / "BTC_USD-5m.json.gz"], database, Hints())


# Any CSV and Parquet


def test_a_parquet_of_real_trades(database, connection, shared_data):
    path = shared_data / "trades" / "XRP_ETH-trades.parquet"
    frame = pl.read_parquet(path)
    report = load([path], database, Hints(exchange="binance", symbol="XRP/ETH"))
    assert report.counts["new_trades"] == frame["id"].n_unique()
    stored = stored_trades(connection)
    assert [(row[0], row[2], row[3], row[4], row[5]) for row in stored] == [
        (i, t * 1000, price, amount, side)
        for t, i, _, side, price, amount, _ in frame.unique("id")
        .sort("timestamp", pl.col("id").cast(pl.Int64))
        .rows()
    ]
    numbers = sorted(frame["id"].cast(pl.Int64).unique().to_list())
    missing = [(a + 1, b - 1) for a, b in pairwise(numbers) if b != a + 1]
    gaps = list_holes(connection)
    assert sorted((int(gap.from_id), int(gap.to_id)) for gap in gaps) == missing
    assert report.counts["holes"] == len(missing)
    begin, end = stored[0][2], stored[-1][2] + 1
    assert differences(connection, "binance", "XRP/ETH", begin, end) == []


def test_a_csv_of_candles_with_iso_times(database, connection, shared_data):
    path = shared_data / "candles" / "btc-perp-20211231-20220201_1m.csv.gz"
    with pytest.raises(WrongUse, match="say how long they are, such as --timeframe 1m"):
        load([path], database, Hints(exchange="binanceusdm", symbol="BTC/USDT:USDT"))
    hints = Hints(exchange="binanceusdm", symbol="BTC/USDT:USDT", timeframe=Timeframe.M1)
    report = load([path], database, hints)
    with gzip.open(path, "rt") as file:
        expected = [
            (
                datetime.fromisoformat(row["timestamp"]).replace(tzinfo=UTC),
                *(float(row[n]) for n in ("open", "volume")),
            )
            for row in csv.DictReader(file)
        ]
    assert report.counts["new_candles"] == len(expected) == 45031
    rows = connection.execute("SELECT timestamp, open, volume FROM candles ORDER BY 1").fetchall()
    assert rows == expected


def test_columns_by_name(database, connection, tmp_path):
    path = write(
        tmp_path / "mine.csv",
        [f'"{START // 1000 + n}";"10.5";"{n + 1}";"B";"x{n}"' for n in range(4)],
        '"at";"px";"n";"way";"ref"',
    )
    with pytest.raises(
        WrongUse, match=r"which column is the timestamp\? Say --column timestamp=NAME; it has at, px"
    ):
        load([path], database, Hints(exchange="bitfinex", symbol="BTC/USD"))
    told = parse_columns(["timestamp=at:ms", "price=px", "size=n", "side=way", "trade_id=ref"])
    load([path], database, Hints(exchange="bitfinex", symbol="BTC/USD", columns=told))
    assert [row[:7] for row in stored_trades(connection, "bitfinex")] == [
        (f"x{n}", 0, START + n * 1000, 10.5, n + 1.0, "buy", 1) for n in range(4)
    ]
    with pytest.raises(WrongUse, match="has no column 'nope'"):
        load(
            [path],
            database,
            Hints(exchange="bitfinex", symbol="BTC/USD", columns=parse_columns(["price=nope"])),
        )


@pytest.mark.parametrize("text", ["price", "price=", "colour=x", "=x", ""])
def test_a_column_that_says_nothing_is_wrong_use(text):
    with pytest.raises(WrongUse, match="write FIELD=COLUMN"):
        parse_columns([text])


def test_symbols_of_a_column(database, connection, tmp_path):
    path = write(
        tmp_path / "two.csv",
        [f"{('BTC-USD', 'ETH/USD')[n % 2]},{START + n},1.5,2,{7 + n // 2}" for n in range(4)],
        "market,time,price,qty,id",
    )
    load([path], database, Hints(exchange="coinbase", columns=parse_columns(["symbol=market"])))
    assert [row[8] for row in stored_trades(connection, "coinbase")] == ["BTC/USD"] * 2 + ["ETH/USD"] * 2


def test_what_must_be_said_is_asked_for_before_anything_is_written(database, connection, tmp_path):
    good = write(tmp_path / "BTCUSDT-trades-2025-01-01.csv", binance_lines(trade_rows(5)))
    bad = write(tmp_path / "x.csv", ["1,2"], "foo,bar")
    with pytest.raises(WrongUse, match="which column is the timestamp"):
        load([good, bad], database, Hints())
    assert stored_trades(connection) == []
