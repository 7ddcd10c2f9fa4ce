"""Each protocol read twice: what the adapter understands of the simulator's words is the simulated truth."""

import asyncio
import json
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from conversation import Conversation, told, true_rows
from msgspec import structs

from collector import exchanges
from collector.collect import Target, open_collector
from collector.exchanges.adapter import TradeRange
from collector.exchanges.events import CandleSeen
from collector.simulator.bars import bars
from collector.simulator.book import SimulatedBook
from collector.simulator.protocols import PROTOCOLS
from collector.simulator.server import serve
from market import MICROSECONDS, Timeframe, WrongUse, parse_time
from storage import rebuild
from storage.database import connect
from tests.market.books import said

HOUR = 3600 * MICROSECONDS
START = parse_time("2026-03-01T21:58:30Z")
SYMBOLS = {
    "binance": ("BTC/USDT", "ETH/USDT"),
    "binanceusdm": ("BTC/USDT:USDT", "SOL/USDC:USDC"),
    "bybit": ("BTC/USDT", "ETH/USDT:USDT", "SOL/USDC:USDC"),
    "coinbase": ("BTC/USD", "ADA/EUR"),
    "htx": ("BTC/USDT", "XRP/USDT"),
    "kraken": ("BTC/USD", "DOGE/USDT"),
    "okx": ("BTC/USDT:USDT", "ETH/USDT"),
}
SECONDS = 150
EXCHANGES = pytest.mark.parametrize("exchange", sorted(SYMBOLS))
FORGETFUL = {"bybit"}
"""What gives a minute of spot trades over REST at most."""


@cache
def conversation(exchange):
    """One conversation for all tests of an exchange, and the trades that happened in it."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "truth.jsonl"
        with Conversation(exchange, SYMBOLS[exchange], START, truth=path) as spoken:
            spoken.run(SECONDS)
        return spoken, {symbol: true_rows(path, symbol) for symbol in SYMBOLS[exchange]}


def test_every_protocol_is_tested():
    assert set(SYMBOLS) == set(PROTOCOLS)


@EXCHANGES
def test_what_was_told_is_the_truth(exchange):
    spoken, truth = conversation(exchange)
    counts = spoken.session.counts
    assert (counts.rejected, counts.unhandled, counts.gaps) == (0, 0, 0), spoken.session.shapes
    assert not spoken.session.refusals
    for symbol in spoken.symbols:
        found = [told(trade) for trade in spoken.trades(symbol)]
        expected = truth[symbol]
        assert len(found) > SECONDS / 3
        assert len({row[1] for row in found}) == len(found)
        settled = [row for row in expected if row[2] < spoken.now - 5 * MICROSECONDS]
        assert found[: len(settled)] == settled
        assert found == expected[: len(found)]


@EXCHANGES
def test_ids_count_where_the_adapter_says_so(exchange):
    spoken, _ = conversation(exchange)
    for symbol in spoken.symbols:
        ids = [trade.trade_seq for trade in spoken.trades(symbol)]
        if spoken.adapter.has_consecutive_ids:
            assert ids == list(range(ids[0], ids[0] + len(ids)))
        spans = [span for span in spoken.rows(symbol, "spans") if span.stream == "trades"]
        assert sum(span.row_count for span in spans) == len(ids)


@EXCHANGES
def test_the_book_stays_live_and_is_the_simulated_one(exchange):
    spoken, _ = conversation(exchange)
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
            values = said(snapshot)
            levels = [json.loads(side)[:10] for side in (values.bids, values.asks)]
            assert [list(map(tuple, side)) for side in levels] == expected


def in_units(market, levels):
    return [(float(market.price_text(price)), float(market.size_text(size))) for price, size in levels]


def test_checksums_of_the_books_match():
    assert conversation("kraken")[0].session.counts.checksums > SECONDS


@EXCHANGES
def test_candles_told_are_those_of_the_trades(exchange):
    spoken, _ = conversation(exchange)
    final = {}
    for line in spoken.adapter.lines(spoken.symbols):
        door = spoken.protocol.connect(line.path)
        for text in line.subscribe:
            door.receive(text)
        sent = [m for m in door.messages(START, START + 200 * MICROSECONDS) if m.kind == "candle"]
        for message in sent:
            for candle in spoken.adapter.parse(message.payload, line.path):
                assert isinstance(candle, CandleSeen)
                assert candle.symbol == message.symbol
                final[candle.symbol, candle.open_time] = candle
    assert bool(final) == (exchange != "coinbase")
    for (symbol, open_time), candle in final.items():
        if open_time + 60 * MICROSECONDS <= START + 200 * MICROSECONDS:
            assert_candle(candle, spoken, symbol, Timeframe.M1)


def assert_candle(candle, spoken, symbol, timeframe):
    market = spoken.protocol.markets[symbol]
    length = timeframe.microseconds // 1000
    (bar,) = bars(market, length, candle.open_time // 1000, 1, 2**60)
    prices = [float(market.price_text(price)) for price in (bar.open, bar.high, bar.low, bar.close)]
    assert [candle.open, candle.high, candle.low, candle.close] == prices
    assert candle.volume == float(market.size_text(bar.size))


@EXCHANGES
def test_past_trades_over_rest_are_the_same_rows(exchange):
    spoken, _ = conversation(exchange)
    symbol = spoken.symbols[0]
    heard = spoken.trades(symbol)
    first, last = heard[10], heard[-10]
    wanted = TradeRange(symbol=symbol, begin=first.timestamp, end=last.timestamp + 1)
    if spoken.adapter.has_consecutive_ids:
        wanted = structs.replace(wanted, first_id=first.trade_seq, last_id=last.trade_seq)
    pages = spoken.past_trades(wanted)
    found = {trade.trade_id: trade for page in pages for trade in page.trades}
    assert found
    for trade in heard:
        if any(page.from_timestamp <= trade.timestamp < page.to_timestamp for page in pages):
            assert found[trade.trade_id] == trade
    assert max(page.to_timestamp for page in pages) >= wanted.end
    assert (min(page.from_timestamp for page in pages) <= wanted.begin) == (exchange not in FORGETFUL)


@EXCHANGES
@pytest.mark.parametrize("timeframe", [Timeframe.M1, Timeframe.M5])
def test_past_candles_over_rest_are_those_of_the_trades(exchange, timeframe):
    spoken = Conversation(exchange, SYMBOLS[exchange], START + HOUR)
    symbol, begin = spoken.symbols[0], timeframe.open_of(START)
    pages = spoken.adapter.candle_pages(symbol, timeframe, begin, begin + HOUR // 2)
    candles = [candle for page in spoken.converse(pages) for candle in page]
    expected = range(begin, begin + HOUR // 2, timeframe.microseconds)
    assert [candle.open_time for candle in candles] == list(expected)
    for candle in candles:
        assert_candle(candle, spoken, symbol, timeframe)


@EXCHANGES
def test_a_connection_made_anew_goes_on_without_a_hole(exchange):
    with Conversation(exchange, SYMBOLS[exchange][:1], START) as spoken:
        spoken.run(10)
        spoken.session.disconnected()
        spoken.connect()
        spoken.run(10)
    trades = spoken.trades(spoken.symbols[0])
    assert len({trade.trade_id for trade in trades}) == len(trades)
    assert spoken.session.stream(spoken.symbols[0]).book.is_live
    if spoken.adapter.has_consecutive_ids:
        assert trades[-1].trade_seq - trades[0].trade_seq + 1 == len(trades)


@EXCHANGES
def test_collecting_from_it_stores_its_truth(exchange, database, tmp_path):
    path = tmp_path / "truth.jsonl"
    symbols = SYMBOLS[exchange]

    async def run():
        async with serve(symbols, 11, protocol=exchange, start=START, speed=900, truth=path) as simulator:
            urls = {"ws_url": simulator.address.ws_url, "rest_url": simulator.address.rest_url}
            target = Target(exchange=exchange, symbols=symbols, **urls)
            collector = await open_collector(target, database, tmp_path / "spool")
            running = asyncio.create_task(collector.run())
            try:
                async with asyncio.timeout(60):
                    while collector.counts.trades < 200:
                        await asyncio.sleep(0.05)
            finally:
                running.cancel()
                await asyncio.wait({running})
                await collector.close()
            return collector.counts

    counts = asyncio.run(run())
    assert (counts.rejected, counts.unhandled) == (0, 0)
    with connect(database) as connection:
        stored = connection.execute(
            "SELECT symbol, trade_id, (extract(epoch FROM timestamp) * 1e6)::bigint, price, size, side"
            " FROM trades ORDER BY timestamp, trade_seq"
        ).fetchall()
        for symbol in symbols:
            found = [row for row in stored if row[0] == symbol]
            truth = true_rows(path, symbol)
            begin = truth.index(found[0])
            assert found == truth[begin : begin + len(found)]
            assert rebuild.differences(connection, exchange, symbol, START - HOUR, START + 100 * HOUR) == []
        assert connection.execute("SELECT count(*) FROM stream_gaps").fetchone() == (0,)
        books = connection.execute("SELECT DISTINCT symbol FROM orderbook_snapshots").fetchall()
        assert {symbol for (symbol,) in books} == set(symbols)


@EXCHANGES
def test_the_simulated_exchange_speaks_it_under_its_own_id(exchange):
    adapter = exchanges.simulated(exchange)
    assert adapter.exchange == "simulated"
    spoken, _ = conversation(exchange)
    request = adapter.instruments_requests()[0]
    found = adapter.parse_rest(request.path, spoken.protocol.answer(request.path, START).body)
    assert found
    assert {instrument.exchange for instrument in found} == {"simulated"}


def test_nobody_simulates_what_nobody_speaks():
    for unknown in ("kraken_v1", "simulated", "nope"):
        with pytest.raises(WrongUse, match="does not speak"):
            exchanges.simulated(unknown)
    assert exchanges.find("simulated").lines(["BTC/USDT"]) == exchanges.simulated("binance").lines(
        ["BTC/USDT"]
    )


@EXCHANGES
def test_a_symbol_of_another_kind_is_refused(exchange):
    for symbol in ("BTC/USD:USD", "BTC/JPY", "BTCUSDT", "BTC/USDT:USDT", "BTC/GBP"):
        if symbol in SYMBOLS[exchange] or (exchange, symbol) in {
            ("bybit", "BTC/USDT:USDT"),
            ("coinbase", "BTC/GBP"),
            ("kraken", "BTC/GBP"),
        }:
            continue
        with pytest.raises(WrongUse, match=symbol):
            PROTOCOLS[exchange]([symbol], 1)


@EXCHANGES
def test_junk_is_answered_and_never_breaks_a_connection(exchange):
    spoken, _ = conversation(exchange)
    door = spoken.protocol.connect(spoken.adapter.lines(spoken.symbols)[0].path)
    for junk in (
        "",
        "{",
        "[]",
        "7",
        '"x"',
        "null",
        '{"method":"subscribe"}',
        '{"op":"subscribe","args":7}',
        b"\xff",
    ):
        for answer in door.receive(junk):
            assert answer
    for text in (
        '{"type":"subscribe","product_ids":7,"channels":[{"name":7}]}',
        '{"type":"subscribe","channels":{"a":1}}',
        '{"method":"subscribe","params":{"channel":"book","symbol":["BTC/USD"],"depth":[7]}}',
        '{"method":"subscribe","params":[],"req_id":{}}',
        '{"op":"subscribe","args":[7,{"channel":7}],"req_id":[]}',
        '{"sub":7,"id":{}}',
        '{"req":[]}',
    ):
        door.receive(text)
    assert spoken.protocol.answer("/nowhere", START).status == 404
    json.loads(spoken.protocol.answer("/nowhere", START).body)
