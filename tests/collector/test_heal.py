"""Holes, filled over a real REST interface: with what exchanges were recorded to answer, or simulated."""

import asyncio
import json
from collections.abc import Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from dialects import DIALECTS

from collector import exchanges, heal
from collector.exchanges.events import TradeSeen
from collector.heal import Healer, open_gaps
from collector.listening import listen
from collector.rest import Rest
from collector.session import Session
from collector.simulator.protocols import speaking
from collector.writer import Writer, proof_of
from market import MICROSECONDS, Side, Trade, Unavailable, parse_time
from storage import database as databases
from storage import verify
from storage.holes import Hole, list_holes

START = parse_time("2026-03-01T23:58:00Z")
MINUTE = 60 * MICROSECONDS
CONSECUTIVE = ("binance", "binanceusdm", "coinbase", "htx", "kraken", "okx")


class Exchange:
    """A simulated exchange's REST interface at a moment, and what was traded before."""

    def __init__(self, exchange: str, minutes: float = 2, since: int = START) -> None:
        self.name = exchange
        self.symbol = DIALECTS[exchange].simulated[0]
        self.adapter = exchanges.find(exchange)
        self.now = since + int(minutes * MINUTE)
        self._protocol = speaking(exchange, [self.symbol], 7)
        self.trades = list(self._traded(since))

    def _traded(self, since: int) -> Iterator[Trade]:
        seen = set()
        for line in self.adapter.lines([self.symbol]):
            session = self._protocol.connect(line.path)
            for text in line.subscribe:
                session.receive(text)
            for message in session.messages(since, self.now):
                for event in self.adapter.parse(message.payload, line.path):
                    if isinstance(event, TradeSeen) and event.trade.trade_id not in seen:
                        seen.add(event.trade.trade_id)
                        yield event.trade

    async def get(self, target: str) -> tuple[int, bytes]:
        answer = self._protocol.answer(target, self.now)
        return answer.status, answer.body


class Recorded:
    """A REST interface that gives one answer once, and then the empty one."""

    def __init__(self, path: Path, empty: bytes) -> None:
        self.asked = []
        self.empty = empty
        self.body = path.read_bytes()

    async def get(self, target: str) -> tuple[int, bytes]:
        self.asked.append(target)
        return 200, self.body if len(self.asked) == 1 else self.empty


def write(url, adapter, symbol, trades, *, lost=(), breaks=()):
    """Stream `trades` onto the tape without those at the places `lost`; before `breaks`, it is cut."""
    session = Session(adapter, [symbol])
    stream = session.stream(symbol)
    for place, trade in enumerate(trades):
        if place in breaks:
            session.disconnected()
        if place not in lost:
            stream.trade(trade, trade.timestamp)
    session.disconnected()
    writer = Writer(url, adapter.exchange, origin="live", proof=proof_of(adapter))
    writer.write(session.take())
    writer.close()


@asynccontextmanager
async def asking(exchange, get):
    async def connected(_):
        raise AssertionError("nobody needs a websocket")

    async with listen("127.0.0.1", 0, connected, get) as address:
        rest = Rest(exchange, address.rest_url, (1e6, 1e6))
        try:
            yield rest
        finally:
            await rest.close()


def healed(url, adapter, gap, get, **options):
    async def scenario():
        async with asking(adapter.exchange, get) as rest:
            return await heal.heal(gap, adapter, rest, url, **options)

    return asyncio.run(scenario())


def holes(url) -> list[Hole]:
    with databases.connect(url) as connection:
        return [gap for gap in list_holes(connection) if gap.stream == "trades"]


def still_open(url) -> list[Hole]:
    with databases.connect(url) as connection:
        return open_gaps(connection, None)


def stored(url) -> list[str]:
    with databases.connect(url) as connection:
        rows = connection.execute("SELECT trade_id FROM trades ORDER BY timestamp, trade_seq").fetchall()
    return [trade_id for (trade_id,) in rows]


def assert_proven(url, exchange, symbol):
    with databases.connect(url) as connection, verify.snapshot(connection, exchange, symbol) as tape:
        proofs = [tape.prove(day) for day in tape.days]
    assert proofs
    assert [proof for proof in proofs if not proof.ok] == []


@pytest.mark.parametrize("name", CONSECUTIVE)
def test_several_holes_of_a_simulated_exchange_are_filled_with_what_was_lost(name, database):
    exchange = Exchange(name)
    count = len(exchange.trades)
    assert count > 40
    lost = {*range(5, 9), 15, *range(20, count - 3)}
    write(database, exchange.adapter, exchange.symbol, exchange.trades, lost=lost, breaks=[20])
    gaps = still_open(database)
    assert len(gaps) == 3
    for gap in gaps:
        assert healed(database, exchange.adapter, gap, exchange.get) == "healed"
    assert stored(database) == [trade.trade_id for trade in exchange.trades]
    assert [(gap.status, gap.missing_count) for gap in holes(database)] == [
        ("healed", 4),
        ("healed", 1),
        ("healed", count - 23),
    ]
    assert_proven(database, name, exchange.symbol)


def test_the_healer_fills_all_of_them_beside_a_collector_whatever_the_exchange_does_first(
    database, monkeypatch
):
    monkeypatch.setattr(heal, "FIRST_RETRY", 0.05)
    exchange = Exchange("coinbase")
    lost = {*range(5, 9), 15, *range(20, 30)}
    write(database, exchange.adapter, exchange.symbol, exchange.trades, lost=lost)
    assert len(still_open(database)) == 3
    troubles = [(500, b""), (429, b""), (200, b"no JSON"), (404, b"{}")]

    async def get(target):
        return troubles.pop() if troubles else await exchange.get(target)

    async def scenario():
        async with asking("coinbase", get) as rest:
            monkeypatch.setattr("collector.rest.DEFAULT_PAUSE", 0.05)
            newest = exchange.trades[-1].timestamp
            healer = Healer(exchange.adapter, rest, database, [exchange.symbol], lambda _: newest)
            running = asyncio.create_task(healer.run())
            async with asyncio.timeout(30):
                # What is closed in the database is counted a moment later.
                while await asyncio.to_thread(still_open, database) or healer.healed < 3 or healer.healing:
                    await asyncio.sleep(0.05)
                    assert not running.done()
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            assert healer.healed == 3
            assert healer.healing == set()

    asyncio.run(scenario())
    assert troubles == []
    assert stored(database) == [trade.trade_id for trade in exchange.trades]
    assert_proven(database, "coinbase", exchange.symbol)


def fill(symbol, number, timestamp, *, trade_id=None):
    return Trade(symbol, timestamp, trade_id or str(number), number, 10.0, 0.5, Side.BUY)


@pytest.mark.parametrize(
    ("name", "file", "first", "last", "empty"),
    [
        ("binance", "spot-trades_response.json", 28457, 28457, b"[]"),
        ("okx", "http_get_trades.json", 734864332, 734864333, b'{"code":"0","msg":"","data":[]}'),
        ("kraken", "http_trades.json", 10218209, None, b'{"error":["nothing more is asked"]}'),
    ],
)
def test_a_hole_is_filled_with_what_an_exchange_was_recorded_to_answer(
    name, file, first, last, empty, database, shared_data
):
    symbol = "BTC/USDT"
    recorded = Recorded(shared_data / "messages" / name / file, empty)
    adapter = exchanges.find(name)
    begin, end, number = times_of(json.loads(recorded.body))
    last = last or number - 1
    before = fill(symbol, first - 1, begin - (name != "kraken") * MICROSECONDS)
    after = fill(symbol, last + 1, end + (name != "kraken") * MICROSECONDS)
    write(database, adapter, symbol, [before, after])
    (gap,) = still_open(database)
    assert (gap.from_id, gap.to_id) == (str(first), str(last))
    assert healed(database, adapter, gap, recorded.get) == "healed"
    assert stored(database) == [str(number) for number in range(first - 1, last + 2)]
    assert recorded.asked
    assert_proven(database, name, symbol)


def times_of(answer):
    """The first and the last time in a recorded answer, in microseconds, and its highest id."""
    if isinstance(answer, list):
        times, ids = [row["time"] * 1000 for row in answer], [row["id"] for row in answer]
    elif "data" in answer:
        times = [int(row["ts"]) * 1000 for row in answer["data"]]
        ids = [int(row["tradeId"]) for row in answer["data"]]
    else:
        (rows,) = (rows for rows in answer["result"].values() if isinstance(rows, list))
        times, ids = [int(row[2] * MICROSECONDS) for row in rows], [row[6] for row in rows]
    return min(times), max(times), max(ids)


def test_a_suspicion_that_proves_empty_is_deleted(database):
    exchange = Exchange("bybit")
    trades = exchange.trades[-20:]
    write(database, exchange.adapter, exchange.symbol, trades, breaks=[10])
    (gap,) = still_open(database)
    assert (gap.status, gap.cause) == ("suspected", "disconnected")
    assert healed(database, exchange.adapter, gap, exchange.get) == "empty"
    assert holes(database) == []
    assert stored(database) == [trade.trade_id for trade in trades]
    assert_proven(database, "bybit", exchange.symbol)


def test_a_suspicion_that_proves_true_is_healed(database):
    exchange = Exchange("bybit")
    trades = exchange.trades[-20:]
    write(database, exchange.adapter, exchange.symbol, trades, lost=range(8, 12), breaks=[10])
    (gap,) = still_open(database)
    assert healed(database, exchange.adapter, gap, exchange.get) == "healed"
    assert [each.status for each in holes(database)] == ["healed"]
    assert stored(database) == [trade.trade_id for trade in trades]
    assert_proven(database, "bybit", exchange.symbol)


def test_what_rest_does_not_reach_back_to_is_unhealable_and_says_why(database):
    exchange = Exchange("bybit", minutes=30)
    write(database, exchange.adapter, exchange.symbol, exchange.trades[:20], lost=[9, 10], breaks=[10])
    (gap,) = still_open(database)
    assert healed(database, exchange.adapter, gap, exchange.get) == "unhealable"
    (gap,) = holes(database)
    assert gap.status == "unhealable"
    assert gap.note == "bybit gives these trades no more over REST"
    assert_proven(database, "bybit", exchange.symbol)


def test_where_there_are_no_past_trades_over_rest_nothing_is_asked(database):
    adapter = exchanges.find("kraken_v1")
    trades = [fill("BTC/USD", n, START + n * MICROSECONDS) for n in range(6)]
    write(database, adapter, "BTC/USD", trades, breaks=[3])
    (gap,) = still_open(database)

    async def get(target):
        raise AssertionError(target)

    assert healed(database, adapter, gap, get) == "unhealable"
    assert [each.note for each in holes(database)] == ["kraken_v1 gives no past trades over REST"]


def test_what_is_left_of_an_old_hole_is_filled_and_the_rest_of_it_given_up(database):
    exchange = Exchange("okx")
    lost = range(10, 30)
    write(database, exchange.adapter, exchange.symbol, exchange.trades, lost=lost)
    (gap,) = still_open(database)
    oldest = int(gap.from_id) + 8

    async def get(target):
        status, body = await exchange.get(target)
        answer = json.loads(body)
        answer["data"] = [row for row in answer["data"] if int(row["tradeId"]) >= oldest]
        return status, json.dumps(answer).encode()

    assert healed(database, exchange.adapter, gap, get) == "unhealable"
    # The trades of the oldest time may not be all there are of it.
    first, second = sorted(holes(database), key=lambda each: int(each.from_id))
    assert (first.status, first.from_id) == ("unhealable", gap.from_id)
    assert (second.status, second.to_id) == ("healed", gap.to_id)
    assert int(first.to_id) + 1 == int(second.from_id) == oldest
    assert "no more over REST" in first.note
    ids = [trade.trade_id for trade in exchange.trades]
    assert stored(database) == ids[:10] + ids[18:]
    assert_proven(database, "okx", exchange.symbol)


def test_a_long_hole_is_filled_in_parts_and_goes_on_where_the_exchange_failed(database, monkeypatch):
    monkeypatch.setattr(heal, "TRADES_A_FILL", 20)
    exchange = Exchange("binance")
    count = len(exchange.trades)
    write(database, exchange.adapter, exchange.symbol, exchange.trades, lost=range(5, count - 2))
    (gap,) = still_open(database)
    asked = []

    async def get(target):
        query = {name: values[-1] for name, values in parse_qs(urlsplit(target).query).items()}
        asked.append(query["fromId"])
        if len(asked) == 3:
            return 500, b""
        return await exchange.get(target.replace("limit=1000", "limit=30"))

    with pytest.raises(Unavailable, match="500"):
        healed(database, exchange.adapter, gap, get)
    (rest,) = still_open(database)
    assert int(gap.from_id) + 20 <= int(rest.from_id) < int(rest.to_id) == int(gap.to_id)
    assert rest.missing_count == int(rest.to_id) - int(rest.from_id) + 1
    assert_proven_but_for_the_hole(database, "binance", exchange.symbol)
    assert healed(database, exchange.adapter, rest, get) == "healed"
    assert len(asked) > 4
    assert stored(database) == [trade.trade_id for trade in exchange.trades]
    assert {each.status for each in holes(database)} == {"healed"}
    assert sum(each.missing_count for each in holes(database)) == count - 7
    assert_proven(database, "binance", exchange.symbol)


def assert_proven_but_for_the_hole(url, exchange, symbol):
    with databases.connect(url) as connection, verify.snapshot(connection, exchange, symbol) as tape:
        for proof in map(tape.prove, tape.days):
            wrong = (proof.duplicates, proof.orphans, proof.cvd, proof.candles)
            assert (proof.ids_missing, [kind.count for kind in wrong]) == (0, [0, 0, 0, 0])


def test_ids_that_the_exchange_never_gave_are_noted(database):
    exchange = Exchange("binance")
    trades = exchange.trades
    write(database, exchange.adapter, exchange.symbol, trades, lost=range(10, 20))
    never = {trades[13].trade_seq, trades[14].trade_seq}
    (gap,) = still_open(database)

    async def get(target):
        status, body = await exchange.get(target)
        return status, json.dumps([row for row in json.loads(body) if row["id"] not in never]).encode()

    assert healed(database, exchange.adapter, gap, get) == "lacking"
    (gap,) = holes(database)
    assert gap.status == "healed"
    assert gap.note == "2 of 10 ids were never given to a trade"
    assert len(stored(database)) == len(trades) - 2
    assert_proven(database, "binance", exchange.symbol)


def test_an_exchange_that_may_only_be_behind_is_asked_again(database):
    exchange = Exchange("binance")
    write(database, exchange.adapter, exchange.symbol, exchange.trades, lost=range(10, 20))
    shown = exchange.trades[15].trade_seq
    (gap,) = still_open(database)

    async def late(target):
        status, body = await exchange.get(target)
        return status, json.dumps([row for row in json.loads(body) if row["id"] < shown]).encode()

    assert healed(database, exchange.adapter, gap, late, is_final=False) == "doubtful"
    (rest,) = still_open(database)
    assert healed(database, exchange.adapter, rest, exchange.get, is_final=False) == "healed"
    assert stored(database) == [trade.trade_id for trade in exchange.trades]
    assert {each.note for each in holes(database)} == {None}
    assert_proven(database, "binance", exchange.symbol)


def test_a_hole_that_somebody_else_closed_meanwhile_stays_as_it_is(database):
    exchange = Exchange("coinbase")
    write(database, exchange.adapter, exchange.symbol, exchange.trades, lost=range(5, 9))
    (gap,) = still_open(database)
    assert healed(database, exchange.adapter, gap, exchange.get) == "healed"
    before = holes(database)
    assert healed(database, exchange.adapter, gap, exchange.get) == "closed"
    assert holes(database) == before
    assert_proven(database, "coinbase", exchange.symbol)


@pytest.mark.parametrize("turns", range(4))
def test_a_healer_that_is_woken_while_it_is_told_to_stop_stops(turns, database):
    async def scenario():
        adapter = exchanges.find("binance")
        rest = Rest("binance", "http://127.0.0.1:9", adapter.rest_rate)
        healer = Healer(adapter, rest, database, ["BTC/USDT"], lambda _: START)
        running = asyncio.create_task(healer.run())
        await asyncio.sleep(0.5)
        healer.wake()
        for _ in range(turns):
            await asyncio.sleep(0)
        running.cancel()
        done, _ = await asyncio.wait({running}, timeout=60)
        await rest.close()
        return bool(done)

    assert asyncio.run(asyncio.wait_for(scenario(), 90))
