import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collector.simulator.bars import bars, partial_bars
from collector.simulator.book import DEPTH, UPDATES_PER_SECOND, SimulatedBook
from collector.simulator.market import FIRST_HOUR, TRADES_PER_HOUR, SimulatedMarket, Trades
from collector.simulator.noise import bit_at, bits_at, gauss, gauss_at, uniform
from market import WrongUse

HOUR_2026 = 490_896
hours = st.integers(FIRST_HOUR, FIRST_HOUR + 24 * 365 * 60)
symbols = st.sampled_from(
    ["BTC/USDT", "ETH/USDT", "SOL/USDT", "DOGE/USDT", "PEPE2/USDT", "A/USDT", "WIF/USDT"]
)
seeds = st.integers(-(2**70), 2**70)


def same(left: Trades, right: Trades) -> bool:
    return left.first_id == right.first_id and all(
        np.array_equal(getattr(left, column), getattr(right, column))
        for column in ("time", "price", "size", "is_buy")
    )


@settings(max_examples=30)
@given(seeds, symbols, st.lists(hours, min_size=1, max_size=4))
def test_any_order_of_asking_gives_the_same_trades(seed: int, symbol: str, asked: list[int]) -> None:
    market = SimulatedMarket(seed, symbol)
    answers = {hour: market.trades(hour) for hour in asked}
    for hour in sorted(answers):
        assert same(SimulatedMarket(seed, symbol).trades(hour), answers[hour])


@settings(max_examples=30)
@given(seeds, symbols, hours)
def test_ids_are_consecutive_and_times_ascend_over_hours(seed: int, symbol: str, hour: int) -> None:
    market = SimulatedMarket(seed, symbol)
    first, second = market.trades(hour), market.trades(hour + 1)
    assert first.first_id == (hour - FIRST_HOUR) * TRADES_PER_HOUR + 1
    assert second.first_id == first.first_id + len(first.time)
    times = np.concatenate((first.time, second.time))
    assert (np.diff(times) >= 0).all()
    assert hour * 3_600_000 <= times[0]
    assert times[-1] < (hour + 2) * 3_600_000
    assert first.time[-1] < (hour + 1) * 3_600_000 <= second.time[0]
    assert (np.diff(first.time) == 0).any(), "ties of time are the norm"


@settings(max_examples=30)
@given(seeds, symbols, hours)
def test_trades_print_inside_the_touch_and_inside_sane_bounds(seed: int, symbol: str, hour: int) -> None:
    market = SimulatedMarket(seed, symbol)
    trades, top = market.trades(hour), market.top(hour)
    second = trades.time // 1000 - hour * 3600
    bid, ask = (side[second] * market.ticks_a_level for side in (top.bid, top.ask))
    assert ((bid <= trades.price) & (trades.price <= ask)).all()
    middle = (bid + ask) / 2
    assert (np.where(trades.is_buy, trades.price - middle, middle - trades.price) >= 0).all()
    prices = trades.price / 10**market.price_decimals
    assert prices.min() > market.base_price / 20
    assert prices.max() < market.base_price * 20
    assert trades.size.min() >= 1
    assert trades.size.max() < 2**40


@settings(max_examples=20)
@given(seeds, symbols, hours)
def test_the_price_path_is_continuous_over_hours(seed: int, symbol: str, hour: int) -> None:
    market = SimulatedMarket(seed, symbol)
    assert market.path(hour).log_price[-1] == pytest.approx(market.path(hour + 1).log_price[0], abs=1e-12)


@settings(max_examples=15)
@given(seeds, symbols, st.integers(FIRST_HOUR * 6 + 6, FIRST_HOUR * 6 + 10**6))
def test_book_changes_lead_from_state_to_state_and_never_cross(seed: int, symbol: str, block: int) -> None:
    book = SimulatedBook(SimulatedMarket(seed, symbol))
    state = book.state(block * 600 - 1)
    bids, asks, last = dict(state.bids), dict(state.asks), state.update_id
    fresh = SimulatedBook(SimulatedMarket(seed, symbol))
    for change in book.changes(block):
        assert change.first_id == last + 1
        last = change.last_id
        for side, levels in ((bids, change.bids), (asks, change.asks)):
            for price, size in levels:
                if size:
                    assert side.get(price) != size, "only what changes is said"
                    side[price] = size
                else:
                    del side[price]
        assert max(bids) < min(asks)
        assert min(*bids, *asks) > 0
        if change.second % 97 == 0:
            state = fresh.state(change.second)
            assert (dict(state.bids), dict(state.asks)) == (bids, asks)
            assert state.update_id == last == change.second * UPDATES_PER_SECOND
            assert len(bids) == len(asks) == DEPTH
            assert [price for price, _ in state.bids] == sorted(bids, reverse=True)
            assert [price for price, _ in state.asks] == sorted(asks)


def test_the_touch_of_the_book_is_what_trades_print_at() -> None:
    market = SimulatedMarket(3, "ETH/USDT")
    book, top = SimulatedBook(market), market.top(HOUR_2026)
    for offset in (0, 1, 599, 600, 3599):
        state = book.state(HOUR_2026 * 3600 + offset)
        assert state.bids[0][0] == top.bid[offset] * market.ticks_a_level
        assert state.asks[0][0] == top.ask[offset] * market.ticks_a_level


def test_a_day_moves_as_a_market_does() -> None:
    moves, deltas, imbalances = [], [], []
    for seed in range(6):
        market = SimulatedMarket(seed, "BTC/USDT")
        found = bars(market, 60_000, HOUR_2026 * 3_600_000, 1440, 2**60)
        closes = np.array([bar.close for bar in found], dtype=float)
        moves.append(np.diff(np.log(closes)))
        deltas.append([2 * bar.buy_size - bar.size for bar in found[1:]])
        state = SimulatedBook(market).state(HOUR_2026 * 3600 + seed * 100)
        bid, ask = (sum(size for _, size in side[:10]) for side in (state.bids, state.asks))
        imbalances.append((bid - ask) / (bid + ask))
    returns = np.concatenate(moves)
    assert 0.02 < returns.std() * 1440**0.5 < 0.06
    assert abs(returns.mean()) < 3 * returns.std() / len(returns) ** 0.5
    kurtosis = (returns**4).mean() / (returns**2).mean() ** 2
    assert kurtosis > 3.3, "calm and wild minutes"
    assert np.corrcoef(returns, np.concatenate(deltas))[0, 1] > 0.3, "buyers push the price up"
    assert abs(np.corrcoef(returns[:-1], returns[1:])[0, 1]) < 0.2, "no trivial money"
    assert max(map(abs, imbalances)) > 0.1


def test_another_seed_or_symbol_is_another_market() -> None:
    prices = [
        SimulatedMarket(seed, symbol).trades(HOUR_2026).time.tobytes()
        for seed in (1, 2)
        for symbol in ("BTC/USDT", "ETH/USDT")
    ]
    assert len(set(prices)) == 4


def test_another_process_finds_the_same_market() -> None:
    code = (
        "from collector.simulator.market import SimulatedMarket as M; from collector.simulator.book import"
        f" SimulatedBook as B; m = M(5, 'SOL/USDT'); t = m.trades({HOUR_2026});"
        f"print(int((t.time * 31 + t.price * 17 + t.size).sum()), B(m).state({HOUR_2026 * 3600}).bids[7])"
    )
    market = SimulatedMarket(5, "SOL/USDT")
    trades = market.trades(HOUR_2026)
    here = int((trades.time * 31 + trades.price * 17 + trades.size).sum())
    level = SimulatedBook(market).state(HOUR_2026 * 3600).bids[7]
    for hash_seed in ("1", "2"):
        run = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=True,
            env={"PYTHONHASHSEED": hash_seed},
        )
        assert run.stdout == f"{here} {level}\n"


@pytest.mark.parametrize(
    "symbol", ["BTCUSDT", "BTC/JPY", "btc/usdt", "/USDT", "BTC/USDT:USD", "BTC/USDC:USDT", "B-T/USDT", ""]
)
def test_what_is_not_against_a_dollar_or_so_is_refused(symbol: str) -> None:
    with pytest.raises(WrongUse, match="BTC/USDT"):
        SimulatedMarket(1, symbol)


@given(st.text("ABCXYZ0189", min_size=1, max_size=12))
def test_any_coin_gets_a_price_and_texts_with_eight_decimals_at_most(coin: str) -> None:
    market = SimulatedMarket(1, f"{coin}/USDT")
    assert 0.009 < market.base_price < 100_000
    assert market.price_decimals >= 0
    assert market.size_decimals >= 0
    assert market.price_decimals + market.size_decimals <= 8
    assert 0.02 < market.daily_volatility < 0.07


def test_there_is_nothing_before_the_first_trade() -> None:
    market = SimulatedMarket(1, "BTC/USDT")
    assert market.trades(FIRST_HOUR).first_id == 1
    with pytest.raises(ValueError, match="begins"):
        market.trades(FIRST_HOUR - 1)


def test_texts_are_decimal() -> None:
    market = SimulatedMarket(1, "BTC/USDT")
    assert (market.price_text(600_001), market.price_text(5)) == ("60000.1", "0.5")
    assert (market.size_text(1), market.size_text(123_456_789)) == ("0.00001", "1234.56789")
    assert SimulatedMarket(1, "ADA/USDT").size_text(17) == "17"


@settings(max_examples=15)
@given(seeds, hours, st.sampled_from([60_000, 300_000, 3_600_000, 14_400_000]))
def test_bars_hold_exactly_their_trades(seed: int, hour: int, length: int) -> None:
    market = SimulatedMarket(seed, "BTC/USDT")
    first = hour * 3_600_000 // length * length
    for bar in bars(market, length, first, 3, 2**60):
        parts = [
            market.trades(h)
            for h in range(bar.open_time // 3_600_000, (bar.open_time + length - 1) // 3_600_000 + 1)
            if h >= FIRST_HOUR
        ]
        time, price, size, is_buy = (
            np.concatenate([getattr(part, column) for part in parts])
            for column in ("time", "price", "size", "is_buy")
        )
        inside = (time >= bar.open_time) & (time < bar.open_time + length)
        assert bar.count == inside.sum() > 0
        assert bar.last_id - bar.first_id + 1 == bar.count
        assert (bar.open, bar.close) == (price[inside][0], price[inside][-1])
        assert (bar.high, bar.low) == (price[inside].max(), price[inside].min())
        assert (bar.size, bar.buy_size) == (size[inside].sum(), size[inside & is_buy].sum())
        product = price * size
        assert (bar.quote, bar.buy_quote) == (product[inside].sum(), product[inside & is_buy].sum())


def test_the_last_bar_may_be_open_and_none_lies_in_the_future() -> None:
    market = SimulatedMarket(1, "BTC/USDT")
    begin = HOUR_2026 * 3_600_000
    whole, current = bars(market, 60_000, begin, 100, begin + 90_000)
    assert current.open_time == whole.open_time + 60_000
    assert current.first_id == whole.last_id + 1
    assert current.count == (market.trades(HOUR_2026).time < begin + 90_000).sum() - whole.count
    assert bars(market, 60_000, begin, 100, begin) == []


def test_a_bar_without_trades_is_flat_at_the_price_before() -> None:
    trades = Trades(
        10,
        np.array([100, 200, 900]),
        np.array([7, 9, 8]),
        np.array([1, 2, 3]),
        np.array([True, False, True]),
    )
    traded, empty, last = partial_bars(trades, np.array([0, 300, 900]), np.array([300, 900, 1000]))
    assert (traded.open, traded.high, traded.low, traded.close, traded.count) == (7, 9, 7, 9, 2)
    assert (empty.open, empty.high, empty.low, empty.close) == (9, 9, 9, 9)
    assert (empty.first_id, empty.last_id, empty.size, empty.quote, empty.count) == (-1, -1, 0, 0, 0)
    assert (last.first_id, last.last_id, last.buy_size, last.buy_quote) == (12, 12, 3, 24)


@given(st.integers(0, 2**64 - 1), st.integers(-(2**62), 2**62))
def test_one_draw_is_the_same_alone_and_among_many(key: int, index: int) -> None:
    bits = bits_at(key, np.array([index - 1, index]))
    assert int(bits[1]) == bit_at(key, index)
    assert gauss(bits)[1] == pytest.approx(gauss_at(key, index), abs=1e-12)


def test_draws_are_uniform_and_normal() -> None:
    bits = bits_at(42, np.arange(200_000))
    flat, normal = uniform(bits), gauss(bits)
    assert flat.min() >= 0
    assert flat.max() < 1
    assert flat.mean() == pytest.approx(0.5, abs=0.005)
    assert np.histogram(flat, 20, (0, 1))[0].min() > 9_600
    assert normal.mean() == pytest.approx(0, abs=0.01)
    assert normal.std() == pytest.approx(1, abs=0.01)
    assert np.corrcoef(normal[:-1], normal[1:])[0, 1] == pytest.approx(0, abs=0.01)
