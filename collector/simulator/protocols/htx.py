"""HTX spot over the simulated market, sans I/O: both websockets, every frame packed with gzip.

Source: https://www.htx.com/en-us/opend/newApiPages, as of November 2026. Acknowledgements do not say when
they were made (`ts`).
"""

import gzip
from collections.abc import Sequence
from functools import partial
from typing import Any, ClassVar
from urllib.parse import urlsplit

import msgspec

from collector.simulator.channels import Channel, ChannelSession, Texts
from collector.simulator.protocol import Protocol, Query
from collector.simulator.protocols.htx_rest import HtxRest
from collector.simulator.protocols.htx_texts import RECALLED, SymbolTexts

_PING_EVERY = 5000


def _nothing(_begin: int, _end: int) -> Texts:
    return []


class Htx(Protocol):
    """Trades, whole books each second, changes of books on a second endpoint, 1m candles."""

    name: ClassVar[str] = "htx"
    spot_quotes: ClassVar[frozenset[str]] = frozenset({"USDT", "USDC"})
    recalled: ClassVar[int] = RECALLED

    def __init__(self, symbols: Sequence[str], seed: int) -> None:
        super().__init__(symbols, seed)
        self._texts = [SymbolTexts(market) for market in self.markets.values()]
        self._rest = HtxRest(self._texts)

    def connect(self, target: str) -> "HtxSession | None":
        """/feed has the changes of books, /ws everything else."""
        match urlsplit(target).path:
            case "/ws":
                return HtxSession({topic: c for text in self._texts for topic, c in text.topics.items()}, {})
            case "/feed":
                texts = {topic: text for text in self._texts for topic in text.feed}
                return HtxSession({topic: text.feed[topic] for topic, text in texts.items()}, texts)
        return None

    def rest(self, path: str, query: Query, now: int) -> Any:
        """The paths under /market, and the list of symbols."""
        return self._rest.get(path, query, now)


class HtxSession(ChannelSession):
    """One connection: a topic a request, and pings that the client answers.

    HTX pings every five seconds. Here none comes before the last one was answered: at a thousand times the
    speed a client has no time for more.
    """

    def __init__(self, topics: dict[str, Channel], books: dict[str, SymbolTexts]) -> None:
        super().__init__()
        self._topics = topics
        self._books = books
        self._awaits_pong = False
        self.subscribe("ping", Channel("other", None, self._pings))

    def frame(self, name: str, text: str) -> str | bytes:
        """Packed."""
        return _packed(text)

    def receive(self, message: str | bytes) -> list[str | bytes]:
        """Acknowledgements and errors; nothing for a pong. A book that is asked for comes in its time."""
        try:
            request = msgspec.json.decode(message)
        except ValueError:
            request = None
        if not isinstance(request, dict):
            return [_error("bad-request", "invalid json", None)]
        if "pong" in request:
            self._awaits_pong = False
            return []
        number = request.get("id")
        for verb, done in (("sub", "subbed"), ("unsub", "unsubbed"), ("req", "rep")):
            if verb in request:
                return self._answer(done, str(request[verb]), number)
        return [_error("bad-request", "invalid command", number)]

    def _pings(self, begin: int, end: int) -> Texts:
        time = -(-begin // _PING_EVERY) * _PING_EVERY
        if self._awaits_pong or time >= end:
            return []
        self._awaits_pong = True
        return [(time, f'{{"ping":{time}}}')]

    def _answer(self, done: str, topic: str, number: Any) -> list[str | bytes]:
        known = self._topics.get(topic)
        if known is None or (done == "rep" and topic not in self._books):
            return [_error("bad-request", f"invalid topic {topic}", number)]
        if done == "rep":
            refreshed = partial(self._books[topic].refreshed, topic)
            self.ask(Channel(known.kind, known.symbol, _nothing, refreshed))
            return []
        if done == "subbed":
            self.subscribe(topic, known)
        else:
            self.unsubscribe(topic)
        return [_text({"id": number, "status": "ok", done: topic})]


def _error(code: str, reason: str, number: Any) -> bytes:
    return _text({"status": "error", "err-code": code, "err-msg": reason, "id": number})


def _text(answer: dict[str, Any]) -> bytes:
    return _packed(msgspec.json.encode(answer).decode())


def _packed(text: str) -> bytes:
    return gzip.compress(text.encode(), compresslevel=1, mtime=0)
