"""Each protocol read twice: what the adapter understands of the simulator's words is the simulated truth."""

import pytest
from conversation import Conversation, told, true_rows
from msgspec import structs

from collector.exchanges.adapter import TradeRange
from collector.simulator.bars import bars
from collector.simulator.book import SimulatedBook
from market import MICROSECONDS, Timeframe, parse_time

HOUR = 3600 * MICROSECONDS
START = parse_time("2026-03-01T21:58:30Z")
SYMBOLS = {
    "binance": ("BTC/USDT", "ETH/USDT"),
    "binanceusdm": ("BTC/USDT:USDT", "SOL/USDC:USDC"),
    "coinbase": ("BTC/USD", "ADA/EUR"),
    "htx": ("BTC/USDT", "XRP/USDT"),
    "kraken": ("BTC/USD", "DOGE/USDT"),
    "okx": ("BTC/USDT:USDT", "ETH/USDT"),
}
SECONDS = 150
EXCHANGES = pytest.mark.parametrize("exchange", sorted(SYMBOLS))


@EXCHANGES
def test_what_was_told_is_the_truth(exchange, tmp_path):
    path = tmp_path / "truth.jsonl"
    with Conversation(exchange, SYMBOLS[exchange], START, truth=path) as spoken:
        spoken.run(SECONDS)
    counts = spoken.session.counts
    assert (counts.rejected, counts.unhandled, counts.gaps) == (0, 0, 0), spoken.session.shapes
    assert not spoken.session.refusals
    for symbol in spoken.symbols:
        found = [told(trade) for trade in spoken.trades(symbol)]
        expected = true_rows(path, symbol)
        assert len(found) > SECONDS / 3
        assert len({row[1] for row in found}) == len(found)
        settled = [row for row in expected if row[2] < spoken.now - 5 * MICROSECONDS]
        assert found[: len(settled)] == settled
        assert found == expected[: len(found)]


@EXCHANGES
def test_the_book_stays_live_and_is_the_one_that_rest_would_give(exchange):
    spoken = Conversation(exchange, SYMBOLS[exchange], START)
    spoken.run(SECONDS)
    for symbol in spoken.symbols:
        stream = spoken.session.stream(symbol)
        assert stream.book.is_live
        assert not stream.book.breaks
        snapshots = spoken.rows(symbol, "books")
        assert len(snapshots) > SECONDS - 10
        market = spoken.protocol.markets[symbol]
        for snapshot in snapshots[::20]:
            # The book before the whole second: what changes at it is not yet in.
            state = SimulatedBook(market).state(snapshot.timestamp // MICROSECONDS - 1)
            expected = [in_units(market, side[:10]) for side in (state.bids, state.asks)]
            assert [list(map(tuple, side[:10])) for side in (snapshot.bids, snapshot.asks)] == expected


@EXCHANGES
def test_past_trades_over_rest_are_the_same_rows(exchange, tmp_path):
    path = tmp_path / "truth.jsonl"
    with Conversation(exchange, SYMBOLS[exchange], START, truth=path) as spoken:
        spoken.run(SECONDS)
    symbol = spoken.symbols[0]
    heard = spoken.trades(symbol)
    first, last = heard[10], heard[-10]
    wanted = TradeRange(symbol=symbol, begin=first.timestamp, end=last.timestamp + 1)
    if spoken.adapter.has_consecutive_ids:
        wanted = structs.replace(wanted, first_id=first.trade_seq, last_id=last.trade_seq)
    pages = spoken.past_trades(wanted)
    found = {trade.trade_id: trade for page in pages for trade in page.trades}
    for trade in heard:
        if wanted.begin <= trade.timestamp < wanted.end:
            assert found[trade.trade_id] == trade
    assert min(page.from_timestamp for page in pages) <= wanted.begin
    assert max(page.to_timestamp for page in pages) >= wanted.end


@EXCHANGES
@pytest.mark.parametrize("timeframe", [Timeframe.M1, Timeframe.M5])
def test_past_candles_over_rest_are_those_of_the_trades(exchange, timeframe):
    with Conversation(exchange, SYMBOLS[exchange], START + HOUR) as spoken:
        symbol = spoken.symbols[0]
        market = spoken.protocol.markets[symbol]
        begin = timeframe.open_of(START)
        pages = spoken.adapter.candle_pages(symbol, timeframe, begin, begin + HOUR // 2)
        candles = [candle for page in spoken.converse(pages) for candle in page]
    assert [candle.open_time for candle in candles] == list(
        range(begin, begin + HOUR // 2, timeframe.microseconds)
    )
    length = timeframe.microseconds // 1000
    for candle, bar in zip(candles, bars(market, length, begin // 1000, len(candles), 2**60), strict=True):
        prices = [float(market.price_text(price)) for price in (bar.open, bar.high, bar.low, bar.close)]
        assert [candle.open, candle.high, candle.low, candle.close] == prices
        assert candle.volume == float(market.size_text(bar.size))


def in_units(market, levels):
    return [(float(market.price_text(price)), float(market.size_text(size))) for price, size in levels]
