"""Files of others onto the tape: every format, damage, holes, and what the ledger says of it."""

import csv
import gzip
import io
import json
import zipfile
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector import exchanges
from collector.imports import columns, lines
from collector.imports.generic import parse_columns
from collector.imports.load import load
from collector.imports.source import EndedEarly, Hints
from market import Timeframe, Trade, WrongUse
from market.timeframe import DAY
from storage.amend import amend
from storage.coverage import Span, spans
from storage.holes import list_holes
from storage.ledger import read_state
from storage.rebuild import differences

START = 1_735_689_600_000_000  # 2025-01-01
MINUTE = 60_000_000


def trade_rows(count, first=100, start=START, step=7_000_123):
    """(id, price, size, µs, is_buyer_maker)"""
    return [
        (first + n, f"{30_000 + n % 17}.{n % 10}", f"0.{n % 9 + 1}", start + n * step, n % 3 == 0)
        for n in range(count)
    ]


def binance_lines(rows, *, is_spot=True, unit=1):
    tail = ",True" if is_spot else ""
    return [
        f"{i},{price},{size},{float(price) * float(size):.8f},{time // unit},{str(maker).capitalize()}{tail}"
        if is_spot
        else f"{i},{price},{size},1.0,{time // unit},{str(maker).lower()}"
        for i, price, size, time, maker in rows
    ]


def write(path: Path, rows, header=None):
    text = "\n".join(([header] if header else []) + list(rows)) + "\n"
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(path.with_suffix(".csv").name, text)
    elif path.suffix == ".gz":
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text)
    return path


def stored_trades(connection, exchange="binance"):
    return connection.execute(
        """
        SELECT trade_id, trade_seq, (extract(epoch FROM timestamp) * 1000000)::bigint, price, size, side,
            fill_count, (extract(epoch FROM received_timestamp) * 1000000)::bigint, symbol
        FROM trades WHERE exchange = %s ORDER BY symbol, timestamp, trade_seq
        """,
        (exchange,),
    ).fetchall()


def snapshot(connection):
    """Everything that an import may change."""
    return [
        connection.execute(f"SELECT * FROM {table} ORDER BY 1, 2, 3, 4, 5").fetchall()
        for table in ("trades", "candles", "cvd_snapshots", "tape_revisions", "stream_gaps", "instruments")
    ] + [
        connection.execute(
            "SELECT exchange, symbol, stream, from_timestamp, to_timestamp, from_id, to_id, proof, origin,"
            " row_count FROM stream_coverage ORDER BY 1, 2, 3, 4"
        ).fetchall()
    ]


def ids(coverage):
    return [(span.from_id, span.to_id, span.proof, span.origin, span.row_count) for span in coverage]


# Binance's archive


@pytest.mark.parametrize("suffix", ["zip", "csv", "csv.gz"])
@pytest.mark.parametrize("unit", [1, 1000])
def test_binance_trades_become_the_rows_that_the_websocket_gives(
    database, connection, tmp_path, suffix, unit
):
    rows = trade_rows(300)
    path = tmp_path / f"BTCUSDT-trades-2025-01-01.{suffix}"
    report = load([write(path, binance_lines(rows, unit=unit))], database, Hints())
    assert report.counts == {
        "files": 1,
        "rows": 300,
        "new_trades": 300,
        "new_candles": 0,
        "known": 0,
        "holes": 0,
        "refused": 0,
    }
    expected = [
        (
            str(i),
            i,
            time // 1000 * 1000,
            float(price),
            float(size),
            "sell" if maker else "buy",
            1,
            None,
            "BTC/USDT",
        )
        for i, price, size, time, maker in rows
    ]
    assert stored_trades(connection) == expected
    i, price, size, time, maker = rows[7]
    message = {
        "e": "trade",
        "E": 1,
        "s": "BTCUSDT",
        "t": i,
        "p": price,
        "q": size,
        "T": time // 1000,
        "m": maker,
    }
    streamed = exchanges.find("binance").parse(json.dumps(message))[0].trade
    assert expected[7][:7] == (
        streamed.trade_id,
        streamed.trade_seq,
        streamed.timestamp,
        streamed.price,
        streamed.size,
        streamed.side,
        streamed.fill_count,
    )
    whole = spans(connection, "binance", "BTC/USDT", "trades")
    assert ids(whole) == [("100", "399", "ids", "import", 300)]
    assert (whole[0].from_timestamp, whole[0].to_timestamp) == (START, expected[-1][2] + 1)
    assert differences(connection, "binance", "BTC/USDT", START, START + DAY) == []
    assert connection.execute("SELECT count(*) FROM candles WHERE interval = '1m'").fetchone()[0] > 30


def test_doing_it_again_changes_nothing(database, connection, tmp_path):
    rows = trade_rows(50)
    path = write(tmp_path / "BTCUSDT-trades-2025-01-01.csv", binance_lines(rows[:20] + rows[25:]))
    load([path], database, Hints())
    before = snapshot(connection)
    connection.commit()
    report = load([path], database, Hints())
    assert (report.counts["new_trades"], report.counts["known"], report.counts["holes"]) == (0, 45, 1)
    assert snapshot(connection) == before
    assert read_state(connection, "binance", "BTC/USDT", "trades") is None


def test_futures_trades_and_aggregates_are_told_by_their_columns(database, connection, tmp_path):
    header = "id,price,qty,quote_qty,time,is_buyer_maker"
    singles = write(
        tmp_path / "ETHUSDT-trades-2024-05-01.csv",
        binance_lines(trade_rows(5)[::2], is_spot=False, unit=1000),
        header,
    )
    text = "agg_trade_id,price,quantity,first_trade_id,last_trade_id,transact_time,is_buyer_maker"
    aggregates = write(
        tmp_path / "BTCUSDT-aggTrades-2024-05-01.zip",
        ["7,1.5,2,100,104,1714521600000,true", "8,1.25,2,105,105,1714521600001,false"],
        text,
    )
    load([singles, aggregates], database, Hints())
    rows = stored_trades(connection, "binanceusdm")
    assert [(row[0], row[1], row[5], row[6], row[8]) for row in rows[:2]] == [
        ("a7", 7, "sell", 5, "BTC/USDT:USDT"),
        ("a8", 8, "buy", 1, "BTC/USDT:USDT"),
    ]
    assert [row[0] for row in rows[2:]] == ["100", "102", "104"]
    # Single trades' ids skip there by themselves.
    assert list_holes(connection) == []
    assert ids(spans(connection, "binanceusdm", "ETH/USDT:USDT", "trades"))[0][2] == "file"
    assert ids(spans(connection, "binanceusdm", "BTC/USDT:USDT", "trades"))[0][2] == "ids"


def test_aggregates_do_not_mix_with_single_trades(database, tmp_path):
    rows = trade_rows(20)
    load([write(tmp_path / "BTCUSDT-trades-2025-01-01.csv", binance_lines(rows))], database, Hints())
    found = [f"{n},1.5,2,{n},{n},{START + n * MINUTE},True,True" for n in (1, 2)]
    with pytest.raises(WrongUse, match="keep them in another database"):
        load([write(tmp_path / "BTCUSDT-aggTrades-2025-01-01.csv", found)], database, Hints())


def klines(count, *, start=START, unit=1000):
    return [
        f"{(start + n * MINUTE) // unit},10.0,12.0,9.5,11.5,100.5,{(start + (n + 1) * MINUTE) // unit - 1},"
        f"1000.1,{n},60.5,600.1,0"
        for n in range(count)
    ]


@pytest.mark.parametrize("unit", [1, 1000])
def test_binance_klines(database, connection, tmp_path, unit):
    folder = tmp_path / "spot" / "monthly"
    folder.mkdir(parents=True)
    lines = klines(30, unit=unit)
    path = write(folder / "BTCUSDT-1m-2025-01.zip", lines[:10] + lines[12:])
    report = load([path], database, Hints())
    assert report.counts["new_candles"] == 28
    rows = connection.execute(
        "SELECT open, high, low, close, volume, buy_volume, trade_count, is_closed, source FROM candles"
        " ORDER BY timestamp"
    ).fetchall()
    assert rows[1] == (10.0, 12.0, 9.5, 11.5, 100.5, 60.5, 1, True, "import")
    covered = spans(connection, "binance", "BTC/USDT", "candles")
    assert [(s.from_timestamp - START, s.to_timestamp - START) for s in covered] == [
        (0, 10 * MINUTE),
        (12 * MINUTE, 30 * MINUTE),
    ]
    assert {(s.proof, s.origin) for s in covered} == {("file", "import")}
    before = snapshot(connection)
    connection.commit()
    assert load([path], database, Hints()).counts["new_candles"] == 0
    assert snapshot(connection) == before


def test_klines_must_say_which_market(database, tmp_path):
    path = write(tmp_path / "BTCUSDT-1m-2025-01.csv", klines(2))
    with pytest.raises(WrongUse, match="add --exchange binance or binanceusdm"):
        load([path], database, Hints())
    assert load([path], database, Hints(exchange="binanceusdm")).counts["new_candles"] == 2


def test_candles_stay_away_from_trades(database, connection, tmp_path):
    rows = trade_rows(100, start=START + 3 * MINUTE + 1000)
    load([write(tmp_path / "BTCUSDT-trades-2025-01-01.csv", binance_lines(rows))], database, Hints())
    path = write(tmp_path / "BTCUSDT-1m-2025-01.csv", klines(60))
    report = load([path], database, Hints(exchange="binance"))
    sources = connection.execute(
        "SELECT source, count(*) FROM candles WHERE interval = '1m' GROUP BY 1 ORDER BY 1"
    ).fetchall()
    # 100 trades of 7 s are 11.7 minutes, the first and the last cut: none of them is imported over.
    assert sources == [("import", 60 - 12), ("trades", 12)]
    assert report.counts["known"] == 12
    assert differences(connection, "binance", "BTC/USDT", START, START + DAY) == []


# Holes


def test_ids_that_are_missing_inside_a_file_are_holes(database, connection, tmp_path):
    rows = trade_rows(60)
    path = write(tmp_path / "BTCUSDT-trades-2025-01-01.csv", binance_lines(rows[:20] + rows[23:]))
    assert load([path], database, Hints()).counts["holes"] == 1
    (gap,) = list_holes(connection)
    assert (gap.from_id, gap.to_id, gap.missing_count, gap.status, gap.proof) == (
        "120",
        "122",
        3,
        "confirmed",
        "ids",
    )
    assert (gap.cause, gap.stream) == ("ids_missing", "trades")
    time = [row[3] // 1000 * 1000 for row in rows]
    assert (gap.from_timestamp, gap.to_timestamp) == (time[19] + 1, time[23])
    assert ids(spans(connection, "binance", "BTC/USDT", "trades")) == [
        ("100", "119", "ids", "import", 20),
        ("123", "159", "ids", "import", 37),
    ]
    assert differences(connection, "binance", "BTC/USDT", START, START + DAY) == []
    connection.commit()
    # A file that has them fills the hole.
    load([write(tmp_path / "BTCUSDT-trades-2025-01-02.csv", binance_lines(rows[15:30]))], database, Hints())
    assert [gap.status for gap in list_holes(connection)] == ["healed"]
    covered = spans(connection, "binance", "BTC/USDT", "trades")
    assert all(one.to_timestamp == other.from_timestamp for one, other in pairwise(covered))
    assert sum(span.row_count for span in covered) == 60
    assert differences(connection, "binance", "BTC/USDT", START, START + DAY) == []


def test_files_that_follow_by_id_are_one_span_and_others_open_no_hole(database, connection, tmp_path):
    rows = trade_rows(90)
    parts = [rows[:30], rows[30:60], rows[70:]]
    files = [
        write(tmp_path / f"BTCUSDT-trades-2025-01-0{n}.csv", binance_lines(part))
        for n, part in enumerate(parts, 1)
    ]
    load(files, database, Hints())
    assert list_holes(connection) == []
    assert ids(spans(connection, "binance", "BTC/USDT", "trades")) == [
        ("100", "159", "ids", "import", 60),
        ("170", "189", "ids", "import", 20),
    ]


def test_what_the_tape_holds_is_no_hole_and_no_hole_opens_towards_it(database, connection, tmp_path):
    rows = trade_rows(60)
    live = [
        Trade("BTC/USDT", r[3] // 1000 * 1000, str(r[0]), r[0], float(r[1]), float(r[2]), None)
        for r in rows[30:40]
    ]
    span = Span(live[0].timestamp, live[-1].timestamp + 1, "130", "139", "ids", "live", 0)
    amend(connection, "binance", "BTC/USDT", live, None, [span], "late_trade")
    connection.commit()
    path = write(tmp_path / "BTCUSDT-trades-2025-01-01.csv", binance_lines(rows[:30] + rows[40:50]))
    load([path], database, Hints())
    assert list_holes(connection) == []
    covered = spans(connection, "binance", "BTC/USDT", "trades")
    assert {span.origin for span in covered} == {"import", "live"}
    assert all(a.to_timestamp == b.from_timestamp for a, b in pairwise(covered))
    assert sum(span.row_count for span in covered) == 50
    assert differences(connection, "binance", "BTC/USDT", START, START + DAY) == []


def test_groups_join_whatever_their_order(database, connection, tmp_path, monkeypatch):
    rows = trade_rows(120, step=DAY // 40 + 1)
    monkeypatch.setattr("collector.imports.trade_loader.GOOD_GROUP", 15)
    monkeypatch.setattr("collector.imports.trade_loader.MAX_GROUP", 25)
    path = write(tmp_path / "BTCUSDT-trades-2025-01.csv", binance_lines(rows[::-1]))
    load([path], database, Hints())
    assert ids(spans(connection, "binance", "BTC/USDT", "trades")) == [("100", "219", "ids", "import", 120)]
    other = write(tmp_path / "prices.csv", [f"{r[3]},{r[1]},{r[2]}" for r in rows], "time,price,size")
    load([other], database, Hints(exchange="bitfinex", symbol="BTC/USDT"))
    (span,) = spans(connection, "bitfinex", "BTC/USDT", "trades")
    assert (span.proof, span.row_count) == ("file", 120)
    assert (span.from_timestamp, span.to_timestamp) == (START, rows[-1][3] + 1)
    for exchange in ("binance", "bitfinex"):
        assert differences(connection, exchange, "BTC/USDT", START, START + 5 * DAY) == []


# Damage


def test_a_dead_markets_years_are_not_filled_with_candles(database, connection, tmp_path):
    rows = [*trade_rows(5), *trade_rows(5, 105, START + 900 * DAY)]
    path = write(tmp_path / "BTCUSDT-trades-2025-01.csv", binance_lines(rows))
    for _ in range(2):
        report = load([path], database, Hints())
        assert report.counts["holes"] == 0
        found = spans(connection, "binance", "BTC/USDT", "trades")
        assert ids(found) == [("100", "104", "ids", "import", 5), ("105", "109", "ids", "import", 5)]
        assert connection.execute("SELECT count(*) < 50 FROM candles").fetchone() == (True,)
    assert differences(connection, "binance", "BTC/USDT", START, START + 901 * DAY) == []


def test_damaged_rows_are_refused_with_their_line_and_the_rest_is_stored(database, connection, tmp_path):
    good = binance_lines(trade_rows(40))
    bad = [
        "7,nan,1,1,1735689600000000,True,True",
        "7,1.5,-1,1,1735689600000000,True,True",
        "7,1.5,1,1,yesterday,True,True",
        "7,1.5,1,1,1735689600000000,maybe,True",
        "7,1.5",
        "\x00\x01,,,,,,",
        "7,0,1,1,1735689600000000,True,True",
        "7,1.5,inf,1,1735689600000000,True,True",
        "7,1_5,1,1,1735689600000000,True,True",
        "7,1.5,1,1,-5,True,True",
        "7,1.5,1,1,99999999999999999999999,True,True",
    ]
    path = write(tmp_path / "BTCUSDT-trades-2025-01-01.csv", good[:20] + bad + ["", "  "] + good[20:])
    report = load([path], database, Hints())
    assert (report.counts["refused"], report.counts["new_trades"]) == (len(bad), 40)
    assert len(report.refused) == 10
    assert report.refused[0] == "BTCUSDT-trades-2025-01-01.csv line 21: not a price: nan"
    assert report.refused[2].endswith("line 23: not a time: yesterday")
    assert report.refused[3].endswith("line 24: not a side: maybe")
    # The ids prove that nothing is missing.
    assert list_holes(connection) == []
    assert len(spans(connection, "binance", "BTC/USDT", "trades")) == 1


def test_a_trade_without_an_id_is_refused_where_the_exchange_numbers_them(database, connection, tmp_path):
    path = write(tmp_path / "mine.csv", ["1735689600.5,10,1,7", "1735689601.5,10,2,"], "time,price,size,id")
    report = load([path], database, Hints(exchange="kraken", symbol="BTC/USD"))
    (refused,) = report.refused
    assert refused.startswith("mine.csv line 3: no id, and kraken numbers its trades")
    assert [row[0] for row in stored_trades(connection, "kraken")] == ["7"]
    path = write(tmp_path / "none.csv", ["1735689600.5,10,1"], "time,price,size")
    with pytest.raises(WrongUse, match="trade_id=NAME"):
        load([path], database, Hints(exchange="kraken", symbol="BTC/USD"))


def test_without_ids_a_refused_row_is_a_hole(database, connection, tmp_path):
    path = write(
        tmp_path / "mine.csv",
        [
            "1735689600.5,10,1,buy",
            "1735689601.5,ten,1,buy",
            "1735689602.5,10,2,sell",
            "1735689603.5,11,2,sell",
        ],
        "time,price,size,side",
    )
    report = load([path], database, Hints(exchange="bitfinex", symbol="BTC/USD"))
    assert report.refused == ["mine.csv line 3: not a price: ten"]
    (gap,) = list_holes(connection)
    assert (gap.cause, gap.status, gap.proof) == ("row_refused", "confirmed", "file")
    assert (gap.from_timestamp, gap.to_timestamp) == (START + 500_001, START + 2_500_000)
    covered = spans(connection, "bitfinex", "BTC/USD", "trades")
    assert [(s.from_timestamp - START, s.to_timestamp - START) for s in covered] == [
        (500_000, 500_001),
        (2_500_000, 3_500_001),
    ]


def test_a_cut_file_is_stored_up_to_the_cut(database, connection, tmp_path):
    path = tmp_path / "BTCUSDT-trades-2025-01-01.csv.gz"
    whole = write(path, binance_lines(trade_rows(5000))).read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    report = load([path], database, Hints())
    assert report.counts["refused"] >= 1
    assert "the file is cut or damaged" in report.refused[-1]
    stored = connection.execute("SELECT count(*) FROM trades").fetchone()[0]
    assert 0 < stored == report.counts["new_trades"] < 5000


def test_nothing_readable_is_wrong_use(database, tmp_path):
    junk = tmp_path / "BTCUSDT-trades-2025-01-01.csv"
    write(junk, ["1,2,3,4,5,6,7", "1,2,3,4,5,6,7"])
    with pytest.raises(WrongUse, match=r"not one row could be read; .*line 1: not a side: 6"):
        load([junk], database, Hints())
    for name, content in (("a.csv", b""), ("b.bin", bytes(range(256)) * 9), ("c.zip", b"PK\x03\x04junk")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(WrongUse, match="is no file of a known format"):
            load([tmp_path / name], database, Hints())
    with pytest.raises(WrongUse, match="no such file"):
        load([tmp_path / "none.csv"], database, Hints())
    with pytest.raises(WrongUse, match="unknown format 'xls': use one of"):
        load([junk], database, Hints(), "xls")
    with pytest.raises(WrongUse, match="is no tardis file"):
        load([junk], database, Hints(), "tardis")


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
    other = "exchange,symbol,timestamp,local_timestamp,is_snapshot,side,price,amount"
    with pytest.raises(WrongUse, match="import the `trades` data type"):
        load([write(tmp_path / "book.csv", [row], other)], database, Hints())


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


# Numbers and times


@given(st.decimals(allow_nan=False, allow_infinity=False, min_value="1e-12", max_value="1e12"))
def test_texts_become_the_nearest_double(value):
    raw = pl.DataFrame({"line": [1], "t": ["1735689600"], "p": [str(value)], "q": ["1"]})
    rows = columns.trades(raw, {"timestamp": "t", "price": "p", "size": "q"}, {})
    assert rows["reason"].to_list() == [None]
    assert rows["price"].to_list() == [float(str(value))]


TIMES = st.integers(200_000_000_000_000, 4_000_000_000_000_000)


@given(
    time=TIMES, unit=st.sampled_from(["s", "ms", "us", "ns"]), is_told=st.booleans(), is_text=st.booleans()
)
def test_times_are_told_by_their_digits(time, unit, is_told, is_text):
    factor = {"s": 1_000_000, "ms": 1000, "us": 1, "ns": 1}[unit]
    number = time * 1000 + 999 if unit == "ns" else time // factor
    raw = pl.DataFrame({"line": [1], "t": [str(number) if is_text else number], "p": [1.5], "q": [1]})
    rows = columns.trades(
        raw, {"timestamp": "t", "price": "p", "size": "q"}, {"timestamp": unit if is_told else None}
    )
    assert rows["timestamp"].to_list() == [time // factor * factor]


@given(time=TIMES, digits=st.integers(0, 9))
def test_seconds_keep_their_decimals(time, digits):
    text = f"{time // 1_000_000}.{time % 1_000_000:06}999"
    text = text[: len(text) - 9 + digits]
    raw = pl.DataFrame({"line": [1], "t": [text], "p": ["1"], "q": ["1"]})
    rows = columns.trades(raw, {"timestamp": "t", "price": "p", "size": "q"}, {})
    kept = 10 ** max(6 - digits, 0)
    assert rows["timestamp"].to_list() == [time // kept * kept]


@given(
    time=TIMES,
    form=st.sampled_from(["%Y-%m-%dT%H:%M:%S.%fZ", "%Y-%m-%d %H:%M:%S.%f", "%Y-%m-%dT%H:%M:%S.%f+00:00"]),
)
def test_iso_times(time, form):
    text = datetime.fromtimestamp(time // 1_000_000, UTC).replace(microsecond=time % 1_000_000).strftime(form)
    raw = pl.DataFrame({"line": [1], "t": [text], "p": ["1"], "q": ["1"]})
    rows = columns.trades(raw, {"timestamp": "t", "price": "p", "size": "q"}, {})
    assert rows["timestamp"].to_list() == [time]


@given(
    rows=st.lists(
        st.text(st.characters(exclude_characters="\n", exclude_categories=["Cs"]), max_size=40), max_size=8
    ),
    size=st.integers(1, 50),
)
def test_lines_keep_their_numbers_whatever_the_blocks(tmp_path_factory, rows, size):
    path = tmp_path_factory.mktemp("lines") / "x.csv"
    path.write_bytes("\n".join(["head", *rows]).encode())
    found = [
        (n + k, line) for n, part in lines.blocks(path, lambda _: None, size) for k, line in enumerate(part)
    ]
    assert [number for number, _ in found] == list(range(1, len(found) + 1))
    expected = ["head", *rows]
    if not expected[-1]:
        expected.pop()
    ascii_only = [(n, line) for n, line in enumerate(expected, 1) if line.isascii()]
    assert set(ascii_only) <= set(found)


def test_a_damaged_archive_ends_early(tmp_path):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.csv", "\n".join(str(n) for n in range(100_000)))
    data = bytearray(buffer.getvalue())
    data[len(data) // 3] ^= 0xFF
    path = tmp_path / "a.zip"
    path.write_bytes(data)
    with pytest.raises(EndedEarly, match=r"line .*cut or damaged"):
        list(lines.blocks(path, lambda _: None))
