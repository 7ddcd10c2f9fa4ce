from random import Random
from typing import Any

import pytest
from msgspec.structs import replace
from psycopg.errors import UniqueViolation
from streaming import EXCHANGE, MIDNIGHT, MINUTE, SYMBOL, random_book, random_trade

from market import DAY, Candle, CvdPoint, Instrument, Side, Timeframe, Trade, WrongUse
from market.timeframe import from_datetime
from storage import tape
from storage.database import Connection
from tests.market.books import said, snapshot_of

CANDLE = Candle(
    symbol=SYMBOL,
    timeframe=Timeframe.M1,
    timestamp=MIDNIGHT,
    open=1.0,
    high=2.0,
    low=0.5,
    close=1.5,
    volume=3.0,
    buy_volume=1.0,
    sell_volume=2.0,
    vwap=1.25,
    trade_count=2,
    cvd_close=-1.0,
    snapshot_count=0,
    is_closed=True,
    is_whole=True,
)


def trade(number: int, trade_id: str | None = None, *, time: int | None = None) -> Trade:
    moment = MIDNIGHT + number if time is None else time
    return Trade(SYMBOL, moment, trade_id or f"{number}", number, 1e-07, 123456789.012345, Side.SELL)


def stored_trades(connection: Connection) -> list[tuple[Any, ...]]:
    rows = connection.execute("""
        SELECT timestamp, trade_id, trade_seq, fill_count, price, size, side, cvd_at_trade, received_timestamp
        FROM trades WHERE exchange = 'simulated' AND symbol = 'BTC/USDT' ORDER BY timestamp, trade_seq
    """)
    return [
        (from_datetime(row[0]), *row[1:8], None if row[8] is None else from_datetime(row[8])) for row in rows
    ]


def test_trades_are_stored_as_they_are(connection: Connection) -> None:
    random = Random(1)
    trades = [random_trade(random, MIDNIGHT + number, number) for number in range(100)]
    received: list[int | None] = [None if n % 3 else MIDNIGHT + n for n in range(100)]
    tape.write_trades(connection, EXCHANGE, [(t, n / 7) for n, t in enumerate(trades)], received)
    assert stored_trades(connection) == [
        (t.timestamp, t.trade_id, t.trade_seq, 1, t.price, t.size, t.side, n / 7, received[n])
        for n, t in enumerate(trades)
    ]


def test_a_trade_that_is_stored_refuses_the_fast_way_only(connection: Connection) -> None:
    tape.write_trades(connection, EXCHANGE, [(trade(1), 0.0)], None)
    with pytest.raises(UniqueViolation):
        tape.write_trades(connection, EXCHANGE, [(trade(0), 0.0), (trade(1), 0.0)], None)
    assert tape.merge_trades(connection, EXCHANGE, [trade(0), trade(1)], [5, 6]) == [trade(0)]
    assert [row[1] for row in stored_trades(connection)] == ["0", "1"]


def test_the_same_id_at_another_time_is_the_same_trade(connection: Connection) -> None:
    first = trade(1000)
    assert tape.merge_trades(connection, EXCHANGE, [first, trade(5, "1000")], None) == [first]
    assert tape.merge_trades(connection, EXCHANGE, [trade(999, "1000")], None) == []
    far = trade(1000, time=MIDNIGHT + 3 * DAY)
    assert tape.merge_trades(connection, EXCHANGE, [far], None) == [far]
    other = replace(first, symbol="ETH/USDT")
    assert tape.merge_trades(connection, EXCHANGE, [other], None) == [other]
    assert tape.merge_trades(connection, "kraken", [first], None) == [first]


def test_nothing_is_nothing(connection: Connection) -> None:
    tape.write_trades(connection, EXCHANGE, [], None)
    assert tape.merge_trades(connection, EXCHANGE, [], None) == []
    assert tape.write_candles(connection, EXCHANGE, []) == 0
    assert tape.write_books(connection, EXCHANGE, []) == 0
    assert tape.write_cvd(connection, EXCHANGE, []) == 0
    assert tape.write_instruments(connection, []) == 0


@pytest.mark.parametrize("is_aggregate", [True, False])
def test_aggregates_and_single_trades_do_not_mix(connection: Connection, is_aggregate: bool) -> None:
    ids = ("a1", "2") if is_aggregate else ("1", "a2")
    tape.write_trades(connection, EXCHANGE, [(trade(10, ids[0]), 0.0), (trade(20, ids[0] + "0"), 0.0)], None)
    new = [trade(15, ids[1]), trade(25, ids[1] + "0")]
    with pytest.raises(WrongUse, match=r"BTC/USDT: .* cannot be added between .* the tape holds"):
        tape.merge_trades(connection, EXCHANGE, new, None)
    with pytest.raises(WrongUse, match="single trades"):
        tape.write_trades(connection, EXCHANGE, [(each, 0.0) for each in new], None)
    assert len(stored_trades(connection)) == 2
    assert tape.merge_trades(connection, EXCHANGE, [trade(30, ids[1])], None)


def test_a_batch_of_both_kinds_is_refused(connection: Connection) -> None:
    with pytest.raises(WrongUse, match="aggregates"):
        tape.merge_trades(connection, EXCHANGE, [trade(1, "1"), trade(2, "a2"), trade(3, "3")], None)


def test_a_hexadecimal_id_is_no_aggregate(connection: Connection) -> None:
    assert (
        len(tape.merge_trades(connection, EXCHANGE, [trade(1, "1"), trade(1, "a1b2"), trade(2)], None)) == 3
    )


def test_trades_since(connection: Connection) -> None:
    tape.merge_trades(connection, EXCHANGE, [trade(10)], None)
    assert tape.has_trades_since(connection, EXCHANGE, SYMBOL, MIDNIGHT + 10)
    assert not tape.has_trades_since(connection, EXCHANGE, SYMBOL, MIDNIGHT + 11)
    assert not tape.has_trades_since(connection, EXCHANGE, "ETH/USDT", 0)


def stored_candle(connection: Connection) -> tuple[Any, ...]:
    row = connection.execute("SELECT volume, is_closed, revised, source FROM candles").fetchone()
    assert row is not None
    return row


def test_a_candle_is_revised_when_a_closed_one_changes(connection: Connection) -> None:
    growing = replace(CANDLE, is_closed=False, is_whole=False, volume=1.0)
    assert tape.write_candles(connection, EXCHANGE, [growing]) == 1
    assert tape.write_candles(connection, EXCHANGE, [replace(growing, volume=2.0)]) == 1
    assert stored_candle(connection) == (2.0, False, 0, "trades")
    assert tape.write_candles(connection, EXCHANGE, [CANDLE]) == 1
    assert tape.write_candles(connection, EXCHANGE, [CANDLE]) == 0
    assert stored_candle(connection) == (3.0, True, 0, "trades")
    assert tape.write_candles(connection, EXCHANGE, [replace(CANDLE, volume=4.0)]) == 1
    assert stored_candle(connection) == (4.0, True, 1, "trades")


def test_a_closed_candle_is_never_open_again(connection: Connection) -> None:
    tape.write_candles(connection, EXCHANGE, [CANDLE])
    assert tape.write_candles(connection, EXCHANGE, [replace(CANDLE, is_closed=False)]) == 0
    tape.write_candles(connection, EXCHANGE, [replace(CANDLE, is_closed=False, volume=4.0)])
    assert stored_candle(connection) == (4.0, True, 1, "trades")


@pytest.mark.parametrize("source", ["exchange", "import"])
def test_a_candle_of_others_only_fills_in(connection: Connection, source: Any) -> None:
    theirs = Candle(
        symbol=SYMBOL,
        timeframe=Timeframe.M1,
        timestamp=MIDNIGHT,
        open=1.0,
        high=1.0,
        low=1.0,
        close=1.0,
        volume=9.0,
        is_closed=True,
        source=source,
    )
    assert tape.write_candles(connection, EXCHANGE, [theirs]) == 1
    assert tape.write_candles(connection, EXCHANGE, [replace(theirs, volume=8.0)]) == 0
    assert stored_candle(connection) == (9.0, True, 0, source)
    assert tape.write_candles(connection, EXCHANGE, [CANDLE, theirs]) == 1
    assert stored_candle(connection) == (3.0, True, 0, "trades")
    assert tape.write_candles(connection, EXCHANGE, [theirs]) == 0


def test_of_several_candles_of_one_bucket_the_last_counts(connection: Connection) -> None:
    newer = replace(CANDLE, volume=4.0)
    later = replace(CANDLE, timestamp=MIDNIGHT + MINUTE)
    assert tape.write_candles(connection, EXCHANGE, [CANDLE, later, newer]) == 2
    rows = connection.execute("SELECT volume FROM candles ORDER BY timestamp").fetchall()
    assert rows == [(4.0,), (3.0,)]


def test_a_stored_book_stays(connection: Connection) -> None:
    values = said(random_book(Random(1), MIDNIGHT))._replace(bids=b"[[1.0,1e-7],[0.5,3.0]]")
    book, other = (
        replace(snapshot_of(SYMBOL, MIDNIGHT, each), sequence=7)
        for each in (values, values._replace(imbalance=1.0))
    )
    assert tape.write_books(connection, EXCHANGE, [book, book]) == 1
    assert tape.write_books(connection, EXCHANGE, [other]) == 0
    row = connection.execute("""
        SELECT timestamp, imbalance, spread_bps, depth, bids_json, asks_json, sequence
        FROM orderbook_snapshots
    """).fetchone()
    assert row is not None
    found = (book.imbalance, book.spread_bps, 10, [[1.0, 1e-07], [0.5, 3.0]], [[2.0, 1.0]], 7)
    assert (from_datetime(row[0]), *row[1:]) == (MIDNIGHT, *found)


def test_a_cvd_point_is_replaced_where_it_differs(connection: Connection) -> None:
    point = CvdPoint(SYMBOL, MIDNIGHT, 1.5, 0.5, 1.25, None, MIDNIGHT - DAY)
    assert tape.write_cvd(connection, EXCHANGE, [point, point]) == 1
    assert tape.write_cvd(connection, EXCHANGE, [point]) == 0
    assert tape.write_cvd(connection, EXCHANGE, [replace(point, cvd_ma_5=2.0)]) == 1
    row = connection.execute("SELECT cvd, cvd_change, cvd_ma_5, cvd_ma_20 FROM cvd_snapshots").fetchone()
    assert row == (1.5, 0.5, 2.0, None)


def test_instruments_keep_what_changed(connection: Connection) -> None:
    instrument = Instrument(
        exchange=EXCHANGE,
        symbol=SYMBOL,
        exchange_symbol="BTCUSDT",
        base="BTC",
        quote="USDT",
        tick_size="0.00000001",
        lot_size="1E-12",
    )
    assert tape.write_instruments(connection, [instrument]) == 1
    assert tape.write_instruments(connection, [instrument]) == 0
    assert tape.write_instruments(connection, [replace(instrument, tick_size="0.1", is_active=False)]) == 1
    row = connection.execute("SELECT tick_size::text, lot_size::text, is_active FROM instruments").fetchone()
    assert row == ("0.1", "0.000000000001", False)
    changes = connection.execute("SELECT field, old_value, new_value FROM instrument_changes ORDER BY field")
    assert changes.fetchall() == [("is_active", "true", "false"), ("tick_size", "0.00000001", "0.1")]


def test_rejected_messages_are_cut_and_few(connection: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tape, "_REJECTED_ROWS", 3)
    for number in range(5):
        tape.write_rejected(connection, EXCHANGE, [(MIDNIGHT, None, f"reason {number}", b"x" * 5000)])
    tape.write_rejected(connection, "kraken", [(MIDNIGHT, "book", "bad", b"")])
    rows = connection.execute(
        "SELECT reason, octet_length(raw) FROM rejected_messages WHERE exchange = 'simulated' ORDER BY id"
    ).fetchall()
    assert rows == [(f"reason {number}", 4096) for number in (2, 3, 4)]
