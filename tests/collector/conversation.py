"""An exchange's adapter and the simulator's reading of the same protocol, talking to each other in memory."""

import json

from collector import exchanges
from collector.exchanges.adapter import RestRequest, TradePage, TradeRange
from collector.rows import StreamRows
from collector.session import Fetch, Reply, Send, Session
from collector.simulator.protocols import speaking
from collector.simulator.truth import Truth
from market import MICROSECONDS, Instrument, Trade


class Conversation:
    """A collector's session and a simulated exchange, without sockets; time passes by `run` alone.

    `trades` holds all trades in the order in which they came, `failures` what should never have come.
    """

    def __init__(self, exchange, symbols, start, seed=7, *, truth=None):
        self.adapter = exchanges.find(exchange)
        self.protocol = speaking(exchange, symbols, seed)
        self.symbols = symbols
        self.now = start
        self.truth = Truth(truth, self.protocol) if truth else None
        self.learn()
        self.session = Session(self.adapter, symbols)
        for symbol in symbols:
            self.session.stream(symbol)
        self.batches = []
        self.connect()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.truth:
            self.truth.close()

    def learn(self):
        for request in self.adapter.instruments_requests():
            answer = self.protocol.answer(request.path, self.now)
            assert answer.status == 200, answer.body
            found = self.adapter.parse_rest(request.path, answer.body)
            self.adapter.add_instruments(item for item in found if isinstance(item, Instrument))

    def connect(self):
        self.lines = []
        for line in self.adapter.lines(self.symbols):
            door = self.protocol.connect(line.path)
            assert door is not None, line.path
            self.lines.append((line, door))
        for line, door in self.lines:
            self.hear(line, door, door.greeting())
            for text in line.subscribe:
                self.hear(line, door, door.receive(text))
            self.do(None, self.session.connected(line.symbols, line.streams))

    def run(self, seconds, step=0.25):
        for _ in range(int(seconds / step)):
            end = self.now + int(step * MICROSECONDS)
            sent = [(line, door, door.messages(self.now, end)) for line, door in self.lines]
            if self.truth:
                self.truth.write(self.symbols, self.now, end)
            self.now = end
            for line, door, messages in sent:
                assert [m.time for m in messages] == sorted(m.time for m in messages)
                self.hear(line, door, [message.payload for message in messages])
        self.batches.append(self.session.take())

    def hear(self, line, door, payloads):
        for payload in payloads:
            self.do((line, door), self.session.message(payload, self.now, line.path, line.streams))

    def do(self, came, requests):
        for request in requests:
            match request:
                case Fetch():
                    answer = self.protocol.answer(request.request.path, self.now)
                    assert answer.status == 200, answer.body
                    self.do(None, self.session.rest(request.request.path, answer.body, self.now))
                case Reply(text):
                    self.hear(*came, came[1].receive(text))
                case Send(text, symbol):
                    for line, door in self.lines:
                        if symbol in line.symbols and "book" in line.streams:
                            self.hear(line, door, door.receive(text))
                case _:
                    raise AssertionError(request)

    def written(self, symbol):
        """All the rows of a symbol."""
        found = StreamRows.empty()
        for batch in self.batches:
            if symbol in batch.rows:
                found.extend(batch.rows[symbol])
        return found

    def rows(self, symbol, name):
        return getattr(self.written(symbol), name)

    def trades(self, symbol):
        return [trade for trade, _ in self.rows(symbol, "trades")]

    def past_trades(self, wanted: TradeRange) -> list[TradePage]:
        """What the adapter's way through REST gives, page by page."""
        return list(self.converse(self.adapter.trade_pages(wanted)))

    def converse(self, pages):
        step = next(pages, None)
        for _ in range(500):
            if step is None:
                return
            if isinstance(step, RestRequest):
                answer = self.protocol.answer(step.path, self.now)
                assert answer.status == 200, (step.path, answer.body)
                try:
                    step = pages.send(answer.body)
                except StopIteration:
                    return
            else:
                yield step
                step = next(pages, None)
        raise AssertionError("the conversation over REST never ends")


def told(trade: Trade) -> tuple:
    side = trade.side.value if trade.side else None
    return (trade.symbol, trade.trade_id, trade.timestamp, trade.price, trade.size, side)


def true_rows(path, symbol):
    truth = [json.loads(line) for line in path.read_text().splitlines()]
    return [
        (t["symbol"], t["trade_id"], int(t["timestamp_us"]), float(t["price"]), float(t["size"]), t["side"])
        for t in truth
        if t["symbol"] == symbol
    ]
