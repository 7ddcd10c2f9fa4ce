"""Backtests over recordings: places in queues, stored runs made anew, and what is refused."""

from dataclasses import replace

import numpy as np
import pytest

import deltatape as dt
from backtest import history
from backtest.account import Account
from backtest.batch import Signals
from backtest.reproduce import reproduce
from backtest.run import run
from backtest.store import save
from backtest.strategies import Strategy
from deltatape.recordings import recorded_again
from market import MarketType, WrongUse

SECOND = 1_000_000
BEGIN = 1_700_000_040
BOOK = (
    '[1,{{"as":[["101","4","{t}"],["102","6","{t}"]],"bs":[["100","9","{t}"],["80","5","{t}"]]}},'
    '"book-10","XBT/USD"]'
)


def bid(price, size):
    return f'[1,{{{{"b":[["{price}","{size}","{{t}}"]]}}}},"book-10","XBT/USD"]'


def sold(price, size):
    return f'[2,[["{price}","{size}","{{t}}","s","l",""]],"trade","XBT/USD"]'


MESSAGES = (
    BOOK,
    sold(100, 1),  # the grid's first order is at 80, behind 5
    bid(80, 12),
    sold(80, 4),  # 1 is left before it
    bid(80, 8),
    sold(80, 3),  # fills 2 of it
    bid(80, 5),
    sold(79, 1),  # through: the rest
    sold(79, 1),
)


@pytest.fixture
def file(tmp_path):
    lines = [f"{BEGIN + i}.0: {each.format(t=f'{BEGIN + i}.0')}" for i, each in enumerate(MESSAGES)]
    path = tmp_path / "session.ws"
    path.write_text("\n".join(lines) + "\n")
    return path


GRID = {"levels": 1, "step": 0.25, "amount": 320.0, "fee_bps": 0.0, "lot": 0.5}


def told(result):
    fills = result.record.fills
    return [
        (each["price"], each["quantity"], source)
        for each, source in zip(fills, result.fills["source"].to_list(), strict=True)
    ]


def test_a_run_over_a_recording_fills_in_turn(file):
    tape = dt.recording([file], "kraken_v1", "BTC/USD")
    result = dt.backtest(tape, "grid", queue="pessimistic", **GRID)
    assert told(result)[:2] == [(80.0, 2.0, "queue"), (80.0, 2.0, "trade")]
    assert "in the queue of their price, cancellations from behind" in str(result)
    assert result.counts("source")["queue"] == 1
    plain = dt.backtest(tape, "grid", **GRID)
    assert told(plain)[0] == (80.0, 4.0, "trade")
    shared = dt.backtest(tape, "grid", queue="pro-rata", **GRID)
    assert shared.setup.account.queue == "pro_rata"


BOTH = (
    (0, '[1,{{"as":[["101","4","{t}"],["102","6","{t}"]],"bs":[["100","9","{t}"]]}},"book-10","XBT/USD"]'),
    (1, '[2,[["101","1","{t}","b","l",""]],"trade","XBT/USD"]'),
    (61, '[2,[["100","1","{t}","b","l",""]],"trade","XBT/USD"]'),  # bought here, the target is at 102
    (62, '[1,{{"a":[["102","5","{t}"]]}},"book-10","XBT/USD"]'),
    (63, '[2,[["102","7","{t}","b","l",""]],"trade","XBT/USD"]'),  # 5 stand before it
    (64, '[2,[["103","1","{t}","b","l",""]],"trade","XBT/USD"]'),
    (65, '[1,{{"a":[["101","3","{t}"]]}},"book-10","XBT/USD"]'),
)


@pytest.fixture
def tapes(tmp_path):
    lines = []
    for later, each in BOTH:
        text = f"{BEGIN + later}.0: {each.format(t=f'{BEGIN + later}.0')}"
        # Of the other one less stands before it.
        lines += [text, text.replace("XBT", "ETH").replace('"102","5"', '"102","4"')]
    path = tmp_path / "both.ws"
    path.write_text("\n".join(lines) + "\n")
    return {name: dt.recording([path], "kraken_v1", name) for name in ("ETH/USD", "BTC/USD")}


def test_several_markets_share_the_cash_and_fill_each_in_its_queue(tapes):
    bought = Strategy("bought", "Buys once.", {}, lambda *_: Signals(np.array([0]), np.array([1])))
    costs = {"queue": "pessimistic", "quantity": 4.0, "target": 0.02, "fee_bps": 0.0, "slippage": "fixed:0"}
    both = dt.backtest(tapes, bought, **costs)
    assert both.setup.sources["recording"] == tapes["BTC/USD"].files
    fills = both.fills
    for name, size in (("BTC/USD", 2.0), ("ETH/USD", 3.0)):
        alone = told(dt.backtest(tapes[name], bought, **costs))
        mine = [fill for fill, symbol in zip(told(both), fills["symbol"], strict=True) if symbol == name]
        assert mine == alone == [(100.0, 4.0, "trade"), (102.0, size, "queue"), (102.0, 4.0 - size, "trade")]
    swap = replace(tapes["ETH/USD"], market_type=MarketType.LINEAR)
    with pytest.raises(WrongUse, match="one kind of market"):
        dt.backtest(tapes | {"ETH/USD": swap}, bought)


def test_a_stored_run_over_several_is_made_anew(connection, database, tapes):
    result = dt.backtest(tapes, "ema_cross", queue="pessimistic", fee_bps=0.0)
    row = history.run(connection, str(save(connection, result)))
    connection.commit()
    again = reproduce(database, row, recorded=recorded_again)
    assert (again.is_same, again.causes) == (True, [])
    assert [source.symbol for source in again.result.markets] == ["BTC/USD", "ETH/USD"]


def test_a_part_of_a_recording_begins_with_its_book(file):
    tape = dt.recording([file], "kraken_v1", "BTC/USD")
    whole = tape.source("1m")
    assert len(whole.depth.timestamp) == len(tape.depth.timestamp)

    assert whole.frame.timestamp[0] == BEGIN // 60 * 60 * SECOND
    with pytest.raises(WrongUse, match="no trade of BTC/USD is in this part"):
        tape.source("1m", since=(BEGIN + 120) * SECOND)


def stored(connection, file):
    tape = dt.recording([file], "kraken_v1", "BTC/USD")
    result = dt.backtest(tape, "grid", queue="pessimistic", **GRID)
    row = history.run(connection, str(save(connection, result)))
    connection.commit()
    return row


def test_a_stored_run_is_made_anew_from_its_recording(connection, database, file):
    row = stored(connection, file)
    assert row["engine_stats"]["fills_by_source"]["queue"] == 1
    again = reproduce(database, row, recorded=recorded_again)
    assert (again.is_same, again.causes, again.effects) == (True, [], [])
    with pytest.raises(WrongUse, match="was fed with recordings"):
        reproduce(database, row)
    file.write_text(file.read_text() + "\n")
    with pytest.raises(WrongUse, match="is not the recording that this run read"):
        reproduce(database, row, recorded=recorded_again)
    file.unlink()
    with pytest.raises(WrongUse, match="of this run is gone"):
        reproduce(database, row, recorded=recorded_again)


def test_what_has_no_changes_of_the_book_has_no_queue(frame, file):
    trades = {"timestamp": [1_700_000_000, 1_700_000_001], "price": [1.0, 2.0], "size": [1.0, 1.0]}
    for table in (frame, trades):
        with pytest.raises(WrongUse, match="give a recording"):
            dt.backtest(table, "grid", queue="pessimistic")
    with pytest.raises(WrongUse, match="give a recording"):
        run(frame, "ema_cross", account=Account(queue="pro_rata"))
    with pytest.raises(WrongUse, match="unknown queue 'fair'"):
        Account(queue="fair")
    tape = dt.recording([file], "kraken_v1", "BTC/USD")
    with pytest.raises(WrongUse, match="queue is none, pessimistic or pro-rata"):
        dt.backtest(tape, "grid", queue="fair")
    with pytest.raises(WrongUse, match="is not walked"):
        dt.backtest(tape, "grid", slippage="walk")
    with pytest.raises(WrongUse, match="leave trades out"):
        dt.backtest(tape, "grid", trades=trades)


def test_a_real_recording(shared_data):
    files = [shared_data / "okx/OKX.ws.1.0", shared_data / "okx/OKX.0.gz"]
    tape = dt.recording(files, "okx", "BTC/USDT")
    assert (tape.terms.tick, len(tape.files)) == (0.1, 2)
    assert (np.diff(tape.trades.timestamp) >= 0).all()
    ladder = {"levels": 50, "step": 4e-6, "amount": 30.0}
    one, two = (dt.backtest(tape, "grid", queue="pessimistic", **ladder) for _ in range(2))
    assert one.counts("source")["queue"] >= 1
    assert one.record.fills.tobytes() == two.record.fills.tobytes()
    assert "changes of the book" in str(one)
