"""Files of others onto the tape: Binance's archive, damage, holes, and what the ledger says of it."""

import json
from itertools import pairwise

import pytest
from foreign_files import MINUTE, START, binance_lines, ids, snapshot, stored_trades, trade_rows, write

from collector import exchanges
from collector.imports.load import load
from collector.imports.source import Hints
from market import Trade, WrongUse
from market.timeframe import DAY
from storage.amend import amend
from storage.coverage import Span, spans
from storage.holes import list_holes
from storage.ledger import read_state
from storage.rebuild import differences

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
