"""Several instruments, and what happens inside candles, through the door for people."""

import numpy as np
import pytest
from tapes import random_frame

import deltatape as dt
from backtest.account import Account
from backtest.costs import latency_of, slippage_of
from backtest.feeds import Source
from backtest.fees import SCHEDULES, fees_of
from backtest.own_policies import MARKET, QUANTITY, TRADE, submit
from backtest.run import run_markets
from backtest.setup import setup
from backtest.stored_feeds import Facts, market_of, market_type_of
from backtest.strategies import names
from backtest.tape import Trades
from market import MarketType, WrongUse

MINUTE = 60_000_000
SPOT, LINEAR = MarketType.SPOT, MarketType.LINEAR
BTC, ETH = "BTC/USDT", "ETH/USDT"


def candles(*rows, length=MINUTE):
    """Candles of open, high, low, close, one after the other."""
    table = np.array(rows, dtype=float)
    columns = {name: table[:, i] for i, name in enumerate(("open", "high", "low", "close"))}
    return {"timestamp": np.arange(len(rows)) * length + 1_767_225_600_000_000, **columns}


def bought_at_first(count):
    entries = np.zeros(count, dtype=bool)
    entries[0] = True
    return entries


@pytest.fixture
def ambiguous():
    """Bought at the second candle's open at 100; the third reaches 97 and 103."""
    return candles((100, 100, 100, 100), (100, 100, 100, 100), (100, 103, 97, 100), (100, 100, 100, 100))


def trades(frame, *seen, candle=2):
    begin = int(frame["timestamp"][candle])
    return {
        "timestamp": begin + np.arange(len(seen)) * 1_000_000,
        "price": np.array(seen, dtype=float),
        "size": np.ones(len(seen)),
    }


OPTIONS = {"stop": 0.02, "target": 0.02, "fee_bps": 0, "slippage_bps": 0}


def test_the_worse_is_taken_where_nobody_knows(ambiguous):
    result = dt.backtest(ambiguous, bought_at_first(4), **OPTIONS)
    assert result.positions["exit_reason"].to_list() == ["stop_loss"]
    assert result.counts("source")["candle_pessimistic"] == 1
    assert "inside a candle the worse comes first" in str(result)


def test_given_trades_and_finer_candles_decide(ambiguous):
    first_up = trades(ambiguous, 100, 103, 97, 100)
    result = dt.backtest(ambiguous, bought_at_first(4), trades=first_up, **OPTIONS)
    assert result.positions["exit_reason"].to_list() == ["take_profit"]
    assert "inside a candle what was given of it" in str(result)
    whole = {name: values[::5] for name, values in candles(*[(100, 100, 100, 100)] * 20).items()}
    whole["high"][2], whole["low"][2] = 103, 97
    minutes = candles(*[(100, 100, 100, 100)] * 20)
    minutes["high"][11], minutes["low"][12] = 103, 97
    result = dt.backtest(whole, bought_at_first(4), finer=minutes, **OPTIONS)
    assert result.positions["exit_reason"].to_list() == ["take_profit"]
    assert result.counts("source")["lower_timeframe"] == 1


def test_only_what_decides_a_fill_is_looked_into(ambiguous):
    asked = []
    frame = dt.backtest(ambiguous, bought_at_first(4)).frame

    def inside(source, numbers):
        asked.append(numbers.tolist())
        found = trades(ambiguous, 100, 103, 97, 100)
        return Source(source.symbol, source.frame, trades=Trades(*found.values()))

    result = run_markets(
        setup(of_first(frame), OPTIONS_OF_POLICY, Account(fee_bps=0)), [Source("", frame)], inside
    )
    assert asked == [[2]]
    assert result.positions["exit_reason"].to_list() == ["take_profit"]
    # Where nothing more is known it ends as well.
    result = run_markets(
        setup(of_first(frame), OPTIONS_OF_POLICY, Account(fee_bps=0)), [Source("", frame)], lambda one, _: one
    )
    assert result.positions["exit_reason"].to_list() == ["stop_loss"]


OPTIONS_OF_POLICY = {"stop": 0.02, "target": 0.02}


def of_first(frame):
    from backtest.doors import of_arrays

    entries = bought_at_first(len(frame))
    return of_arrays(entries, np.zeros_like(entries))


def test_instruments_share_the_cash():
    frames = {ETH: random_frame(900, seed=3), BTC: random_frame(900, seed=4)}
    result = dt.backtest(frames, "ema_cross", fast=5, slow=20)
    assert result.symbols == [BTC, ETH]
    assert set(result.positions["symbol"]) == {BTC, ETH}
    assert result.setup.policy.fraction == 0.5
    assert result.positions["pnl"].sum() == pytest.approx(result.metrics.total_pnl)
    one_by_one = [
        dt.backtest(frame, "ema_cross", symbol=symbol, fast=5, slow=20) for symbol, frame in frames.items()
    ]
    entries = {(row["symbol"], row["entry_timestamp"]) for row in result.positions.iter_rows(named=True)}
    alone = {(one.symbol, time) for one in one_by_one for time in one.positions["entry_timestamp"].to_list()}
    assert entries == alone
    held = [one.held.total_return_pct for one in one_by_one]
    assert result.held.total_return_pct == pytest.approx(np.mean(held))
    assert result.metrics.buy_and_hold_pct == pytest.approx(np.mean(held))
    assert f"{BTC} {ETH}" in result.title
    assert result.reasons["positions"].to_list()[0] == len(result.positions)


def test_one_instrument_comes_out_the_same_on_either_path():
    # A whole day: its last close is at midnight.
    frame = random_frame(1_440, seed=5)
    alone = dt.backtest(frame, "bollinger", stop=0.004, target=0.006, trail=0.005, symbol=BTC)
    far = {"timestamp": frame.timestamp[:1], "rate": [0.0]}
    merged = dt.backtest(frame, "bollinger", stop=0.004, target=0.006, trail=0.005, symbol=BTC, funding=far)
    assert merged.fills.equals(alone.fills)
    assert merged.metrics == alone.metrics
    assert merged.days.equals(alone.days)
    assert alone.positions["trailing_stop"].drop_nans().len() > 0


def test_funding_is_part_of_the_profit():
    frame = candles(*[(100, 100, 100, 100)] * 4)
    paid = {"timestamp": frame["timestamp"][2:3], "rate": [0.001], "mark_price": [100.0]}
    result = dt.backtest(
        frame, bought_at_first(4), funding=paid, symbol="BTC/USDT:USDT", leverage=2, fee_bps=0, slippage_bps=0
    )
    assert result.setup.account.market_type is LINEAR
    (position,) = result.positions.iter_rows(named=True)
    assert position["quantity"] == 200
    assert position["funding"] == pytest.approx(-20)
    assert position["pnl"] == pytest.approx(-20)
    assert result.metrics.total_pnl == pytest.approx(-20)
    assert result.metrics.losing_trades == 1
    assert "funding" in str(result)
    assert "leverage" in str(result)


def test_books_are_crossed_and_walked():
    frame = candles(*[(100, 100, 100, 100)] * 4)
    books = {
        "timestamp": frame["timestamp"][1:3],
        "best_bid": [99.0, 99.0],
        "best_ask": [101.0, 101.0],
        "bids_json": ["[[99, 1000]]"] * 2,
        "asks_json": ["[[101, 10], [103, 1000]]"] * 2,
    }
    crossed = dt.backtest(frame, bought_at_first(4), books=books, slippage="spread", fee_bps=0)
    assert crossed.fills["price"][0] == 101
    walked = dt.backtest(frame, bought_at_first(4), books=books, slippage="walk", fee_bps=0, quantity=20)
    assert walked.fills["price"][0] == 102
    assert walked.fills["source"][0] == "book"
    assert "the levels of the stored book" in str(walked)


def test_trades_alone_make_the_candles_and_the_events():
    at = np.arange(600) * 1_000_000 + 1_767_225_600_000_000
    price = 100 + np.sin(np.arange(600) / 30)
    result = dt.backtest({"timestamp": at, "price": price, "size": np.ones(600)}, bought_at_first(10))
    assert len(result.frame) == 10
    assert result.fills["source"].to_list() == ["trade", "close"]
    # The candle of the first minute closes with that minute; the next trade is the next event.
    assert result.fills["price"][0] == pytest.approx(price[60] * 1.0001)
    assert "every trade happens" in str(result)
    assert result.equity["timestamp"].len() >= 10


@dt.policy(drop=0.01, highest=0.0)
def dip(state, event, mine):
    """Buys once when a trade lies `drop` below the highest one."""
    if event.kind != TRADE:
        return
    mine.highest = max(mine.highest, event.price)
    if state.instruments[0].quantity == 0.0 and event.price < mine.highest * (1.0 - mine.drop):
        submit(state, 0, MARKET, 1, 0, 7, 0.0, QUANTITY, 1.0)


def test_a_policy_of_ones_own_sees_every_trade():
    at = np.arange(300) * 1_000_000 + 1_767_225_600_000_000
    price = np.r_[np.linspace(100, 110, 100), np.linspace(110, 105, 100), np.full(100, 105.0)]
    tape = {"timestamp": at, "price": price, "size": np.ones(300)}
    result = dt.backtest(tape, dip(drop=0.02), fee_bps=0, slippage_bps=0)
    first = np.flatnonzero(price < 110 * 0.98)
    below = first[first > 99][0]
    assert result.fills["price"][0] == price[below + 1]
    assert result.title.startswith("dip drop=0.02")
    assert len(result.positions) == 1
    with pytest.raises(WrongUse, match="dip has no parameter 'deep'"):
        dip(deep=1)
    with pytest.raises(WrongUse, match="fields are numbers"):
        dt.policy()


def test_a_policy_that_cannot_be_compiled_is_said():
    @dt.policy(count=0)
    def broken(state, event, mine):
        mine.nothing = 1

    with pytest.raises(WrongUse, match="the policy broken has no field 'nothing'"):
        dt.backtest(candles(*[(100, 100, 100, 100)] * 4), broken)

    @dt.policy(count=0)
    def unknown(state, event, mine):
        mine.count = nobody_knows_this  # noqa: F821

    with pytest.raises(WrongUse, match=r"the policy unknown cannot be compiled: .*nobody_knows_this"):
        dt.backtest(candles(*[(100, 100, 100, 100)] * 4), unknown)


@pytest.mark.parametrize("name", names())
def test_every_shipped_strategy_runs(name):
    frame = random_frame(400, seed=9)
    flow = np.sin(np.arange(400))
    table = {each: frame.column(each) for each in ("open", "high", "low", "close", "volume")}
    table |= {"timestamp": frame.timestamp, "buy_volume": frame.volume * (0.5 + flow / 2)}
    table["sell_volume"] = frame.volume - table["buy_volume"]
    result = dt.backtest(table, name)
    assert result.metrics.total_trades == len(result.positions)
    assert "orders fill" in str(result)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: slippage_of("fixed"), None),
        (lambda: slippage_of("fixed:x"), "fixed:BPS"),
        (lambda: slippage_of("walks"), "spread or walk"),
        (lambda: slippage_of("queue"), "give a recording"),
        (lambda: latency_of("fast"), "milliseconds"),
        (lambda: latency_of("feed=2,back=3"), "feed=20,order=50"),
        (lambda: fees_of("nowhere", SPOT), "say them, --fee-bps and --maker-bps"),
        (lambda: fees_of("kraken", LINEAR), "linear markets on 'kraken' are not known"),
        (lambda: market_type_of({"B/USD:B": Facts(MarketType.INVERSE)}, None), "inverse contract"),
        (lambda: market_type_of({BTC: Facts(SPOT)}, LINEAR), "a spot market, not linear"),
        (lambda: market_type_of({"B/U:U": Facts(LINEAR)}, SPOT), "use linear"),
        (lambda: market_type_of({BTC: Facts(SPOT), "B/U:U": Facts(LINEAR)}, None), "run them apart"),
        (lambda: both("ETH/BTC", BTC), "paid in one currency, not BTC and USDT"),
        (lambda: both(ETH, BTC, "grid"), "the plan grid trades one instrument"),
        (lambda: both(ETH, BTC, np.zeros(9)), "entries as arrays are of one instrument"),
        (
            lambda: dt.backtest(random_frame(9), "ema_cross", books={"timestamp": []}),
            "need a column best_bid",
        ),
        (
            lambda: dt.backtest(random_frame(9), "ema_cross", funding={BTC: {"timestamp": [], "rate": []}}),
            "funding are given of BTC/USDT, which has no candles here",
        ),
        (lambda: dt.backtest({"timestamp": [], "price": [], "size": []}, "ema_cross"), "there are no trades"),
    ],
)
def test_what_makes_no_sense_is_refused(call, message):
    if message is None:
        assert call() == {"slippage": "fixed"}
        return
    with pytest.raises(WrongUse, match=message):
        call()


def both(one, other, strategy="ema_cross"):
    return dt.backtest({one: random_frame(9), other: random_frame(9)}, strategy)


def test_fees_of_exchanges():
    assert fees_of("binance", MarketType.MARGIN)[:2] == (10.0, 10.0)
    assert fees_of("krakenfutures", SPOT).source.startswith("krakenfutures spot, as ccxt")
    assert all(taker >= maker >= 0 for taker, maker in SCHEDULES.values())
    result = dt.backtest(random_frame(50), "ema_cross", exchange="kraken", symbol="BTC/USD")
    assert (result.setup.account.fee_bps, result.setup.account.maker_bps) == (40.0, 25.0)
    assert market_of("BTC/USD:BTC-261225") is MarketType.INVERSE


def test_latency_and_slippage_in_a_word():
    assert latency_of("50") == {"feed_ms": 50.0, "order_ms": 50.0, "response_ms": 50.0}
    result = dt.backtest(random_frame(50), "ema_cross", latency="feed=20,order=30", slippage="fixed:3")
    account = result.setup.account
    assert (account.feed_ms, account.order_ms, account.slippage_bps) == (20, 30, 3)
    assert "feed 20 ms, order 30 ms" in str(result)
