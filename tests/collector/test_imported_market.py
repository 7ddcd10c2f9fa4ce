"""Files of trades and book changes say what a recording of the same messages says."""

import gzip
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import deltatape as dt
from market import WrongUse

SECOND = 1_000_000
BEGIN = 1_700_000_040
BOOK = "exchange,symbol,timestamp,local_timestamp,is_snapshot,side,price,amount"
TRADES = "exchange,symbol,timestamp,local_timestamp,id,side,price,amount"
HEAD = f"kraken,XBT/USD,{BEGIN * SECOND},{BEGIN * SECOND + 5}"


def write(folder, name, lines):
    path = folder / name
    text = "\n".join(lines) + "\n"
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text)
    return path


def row(time, came, *rest):
    return ",".join(map(str, ("kraken", "XBT/USD", time * SECOND, came, *rest)))


LEVELS = [
    row(BEGIN, 1, "true", "bid", 100, 9),
    row(BEGIN, 1, "true", "bid", 80, 5),
    row(BEGIN, 1, "true", "ask", 101, 4),
    row(BEGIN + 2, 2, "false", "bid", 80, 12),
    row(BEGIN + 4, 3, "false", "bid", 80, 8),
    row(BEGIN + 6, 4, "false", "bid", 80, 5),
]
SALES = [
    row(BEGIN + 1, 1, "a", "sell", 100, 1),
    row(BEGIN + 3, 2, "b", "sell", 80, 4),
    row(BEGIN + 5, 3, "c", "sell", 80, 3),
    row(BEGIN + 7, 4, "d", "sell", 79, 1),
    row(BEGIN + 8, 5, "e", "sell", 79, 1),
]
GRID = {"levels": 1, "step": 0.25, "amount": 320.0, "fee_bps": 0.0, "lot": 0.5}


@pytest.fixture
def market(tmp_path):
    def read(book=LEVELS, trades=SALES, *, book_header=BOOK, trades_header=TRADES, symbol="BTC/USD"):
        files = [
            write(tmp_path, "incremental_book_L2.csv.gz", [book_header, *book]),
            write(tmp_path, "trades.csv", [trades_header, *trades]),
        ]
        return dt.recording(files, "kraken", symbol)

    return read


def columns(part):
    return [np.asarray(column).tolist() for column in part]


def test_a_run_over_files_fills_in_turn(market):
    tape = market()
    result = dt.backtest(tape, "grid", queue="pessimistic", **GRID)
    fills = result.fills
    assert list(zip(fills["price"], fills["quantity"], fills["source"], strict=True))[:2] == [
        (80.0, 2.0, "queue"),
        (80.0, 2.0, "trade"),
    ]
    assert (tape.symbol, tape.terms.tick, tape.notes) == ("BTC/USD", 1.0, ())
    assert columns(tape.depth)[1:3] == [
        [2, -2, 1, 1, -1, 0, 1, 1, 1, 0],
        [80, 101, 100, 80, 101, 0, 80, 80, 80, 0],
    ]


def messages():
    """Steps of a session, each so many seconds after the one before."""
    sizes = st.sampled_from([0, 1, 3, 8])
    bids = st.lists(st.tuples(st.integers(90, 99), sizes), max_size=4)
    asks = st.lists(st.tuples(st.integers(98, 108), sizes), max_size=4)
    whole = st.tuples(st.just("true"), bids, st.lists(st.tuples(st.integers(100, 108), sizes), max_size=4))
    change = st.tuples(st.just("false"), bids, asks).filter(lambda step: step[1] or step[2])
    trade = st.tuples(st.sampled_from("bs"), st.integers(90, 108), st.integers(1, 6))
    later = st.integers(0, 20)
    return st.lists(st.tuples(later, st.one_of(change, change, trade, trade, whole)), min_size=4, max_size=40)


START = ("true", [(99, 3), (95, 4), (90, 8)], [(101, 3), (105, 8)])


def told_twice(steps):
    """The same as messages of Kraken, recorded, and as rows of two files."""
    now, recorded, book, trades, before = BEGIN, [], [], [], ""
    for number, (later, (what, one, other)) in enumerate([(0, START), (0, ("b", 100, 1)), *steps]):
        now += later
        if what == "true" and (what == before or not (one or other)):
            # In a file two snapshots in a row are one, and one without levels leaves no row.
            continue
        before = before if what in "bs" else what
        came = BEGIN * SECOND + number
        if what in "bs":
            text = f'[2,[["{one}","{other}","{now}.0","{what}","l",""]],"trade","XBT/USD"]'
            trades.append(row(now, came, number, "buy" if what == "b" else "sell", one, other))
        else:
            sides = zip(("bs", "as") if what == "true" else ("b", "a"), (one, other), strict=True)
            levels = [
                f'"{name}":[' + ",".join(f'["{price}","{size}","{now}.0"]' for price, size in side) + "]"
                for name, side in sides
                if side or what == "true"
            ]
            text = f'[1,{{{",".join(levels)}}},"book-1000","XBT/USD"]'
            named = [("bid", *level) for level in one] + [("ask", *level) for level in other]
            book += [row(now, came, what, *level) for level in named]
        recorded.append(f"{BEGIN + number}.0: {text}")
    return SimpleNamespace(recorded=recorded, book=book, trades=trades)


@settings(max_examples=30)
@given(messages(), st.sampled_from(["pessimistic", "pro-rata"]))
def test_files_say_what_a_recording_says(tmp_path_factory, steps, queue):
    told, folder = told_twice(steps), tmp_path_factory.mktemp("told")
    recorded = dt.recording([write(folder, "session.ws", told.recorded)], "kraken_v1", "BTC/USD")
    book = write(folder, "book.csv", [BOOK, *told.book])
    files = [book, write(folder, "trades.csv.gz", [TRADES, *told.trades])]
    read = dt.recording(files, "kraken", "BTC/USD")
    assert columns(read.depth) == columns(recorded.depth)
    assert columns(read.trades) == columns(recorded.trades)
    ladder = {"levels": 5, "step": 0.01, "amount": 300.0, "fee_bps": 0.0, "tick": 1.0, "lot": 0.5}
    one, other = (dt.backtest(tape, "grid", queue=queue, **ladder) for tape in (recorded, read))
    assert one.record.fills.tobytes() == other.record.fills.tobytes()


def test_only_the_rows_of_the_market_count(market):
    other = [each.replace("XBT/USD", "ETH/USD").replace(",80,", ",3,") for each in LEVELS]
    both = [each for pair in zip(other, LEVELS, strict=True) for each in pair]
    assert columns(market(both).depth) == columns(market().depth)


def test_columns_may_have_other_usual_names_and_forms(market, tmp_path):
    names = {"timestamp": "time", "price": "px", "amount": "qty", "local_timestamp": "received"}
    whole = market()
    book = pl.read_csv(tmp_path / "incremental_book_L2.csv.gz")
    trades = pl.read_csv(tmp_path / "trades.csv").rename({"timestamp": "date", "amount": "volume"})
    # Two rows at a time, so that messages are parted.
    ipc = {"record_batch_size": 2, "compression": "uncompressed"}
    book.rename(names).drop("exchange", "symbol").write_ipc(tmp_path / "book.feather", **ipc)
    trades.drop("symbol").write_ipc(tmp_path / "trades.feather")
    trades.write_parquet(tmp_path / "trades.parquet")
    for name in ("trades.feather", "trades.parquet"):
        read = dt.recording([tmp_path / "book.feather", tmp_path / name], "kraken", "BTC/USD")
        assert columns(read.depth) == columns(whole.depth)
        assert columns(read.trades) == columns(whole.trades)


def test_a_book_that_crosses_is_not_known_until_its_next_snapshot(market):
    crossing = row(BEGIN + 7, 5, "false", "ask", 100, 1)
    again = [row(BEGIN + 8, 6, "true", "bid", 99, 1), row(BEGIN + 8, 6, "true", "ask", 100, 1)]
    after = row(BEGIN + 9, 7, "false", "bid", 98, 2)
    tape = market([*LEVELS, crossing, row(BEGIN + 7, 5, "false", "bid", 98, 7), *again, after])
    where = "incremental_book_L2.csv.gz line 8 (2023-11-14T22:14:07Z)"
    assert tape.notes == (
        f"the book crosses itself at {where}: it is not known from there to its next snapshot",
    )
    known = [(time, size) for time, side, _, size, *_ in zip(*columns(tape.depth), strict=True) if side == 0]
    assert known == [
        (BEGIN * SECOND, 1),
        ((BEGIN + 6) * SECOND, 0),
        ((BEGIN + 8) * SECOND, 1),
        ((BEGIN + 9) * SECOND, 0),
    ]


def test_a_file_that_breaks_off_is_read_up_to_there(market, tmp_path):
    market()
    path = tmp_path / "incremental_book_L2.csv.gz"
    path.write_bytes(path.read_bytes()[:-9])
    tape = dt.recording([path, tmp_path / "trades.csv"], "kraken", "BTC/USD")
    assert "cut or damaged" in tape.notes[0]
    assert tape.notes[0].endswith("it is read up to there")


def test_what_cannot_be_is_refused_in_words_that_help(market, tmp_path):
    short = BOOK.replace("is_snapshot,", "")
    candles = "exchange,symbol,time,open,high,low,close,volume"
    bad = row(BEGIN + 9, 5, "false", "bid", "many", 1)
    for given_files, said in (
        (
            {"book": LEVELS[3:]},
            "line 2: the book begins without a snapshot .* a file that has one",
        ),
        ({"book": [*LEVELS, LEVELS[0]]}, "line 8: the time goes back: sort the rows"),
        ({"trades": [*SALES, SALES[0]]}, "trades.csv line 7: the time goes back"),
        ({"book": [*LEVELS, bad]}, "line 8: not a price: many: mend the row"),
        ({"book": [each.replace("false", "perhaps") for each in LEVELS]}, "neither true nor false: perhaps"),
        ({"book_header": short}, "`incremental_book_L2`"),
        ({"book_header": BOOK.replace("exchange", "of").replace("side", "way")}, "which column is the side"),
        ({"book": [], "book_header": candles}, "holds candles: give a file of its changes"),
        ({"symbol": "ETH/USD"}, r"no trade of ETH/USD is in .* \(XBT/USD is\): give"),
        ({"trades": []}, "no trade of BTC/USD is in .*one of its trades"),
        ({"book": [each.replace("kraken", "coinbase") for each in LEVELS]}, "is of coinbase, not of kraken"),
    ):
        with pytest.raises(WrongUse, match=said):
            market(**given_files)
    with pytest.raises(WrongUse, match=r"no change of the book of BTC/USD is in .*one of its trades"):
        dt.recording([write(tmp_path, "trades.csv", [TRADES, *SALES])], "kraken", "BTC/USD")
    with pytest.raises(WrongUse, match="no such file"):
        dt.recording([tmp_path / "none.csv"], "kraken", "BTC/USD")
