"""What each protocol of the simulator is: an exchange's words over the simulated market, sans I/O."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, Literal
from urllib.parse import parse_qs, urlsplit

import msgspec
from msgspec import Struct

from collector.simulator.market import SimulatedMarket
from market import WrongUse

MAX_SYMBOLS = 200
"""Of a simulator: each keeps some megabytes of messages at hand."""
Kind = Literal["trade", "book", "candle", "other"]
Query = dict[str, str]


class Message(Struct, frozen=True, gc=False):
    """One websocket message: when it is sent (microseconds UTC), what it tells of, and the frame as sent.

    `symbol` is the unified symbol that it is about, None for a message about none.
    """

    time: int
    kind: Kind
    symbol: str | None
    payload: str | bytes


class RestAnswer(Struct, frozen=True):
    """An HTTP status and a JSON body."""

    status: int
    body: bytes


class Refused(Exception):
    """A GET is answered by this error: HTTP status and body, in the exchange's form."""

    def __init__(self, status: int, body: Any) -> None:
        super().__init__(body)
        self.status = status
        self.body = body


def whole_number(query: Query, name: str, default: int, wrong: Refused) -> int:
    """The number that a query names, `default` where it names none; raises `wrong` for what is no number."""
    text = query.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdecimal() and len(text) <= 19):
        raise wrong
    return int(text)


class ProtocolSession(ABC):
    """One websocket connection: what it subscribed, and so what it is to be sent."""

    @property
    @abstractmethod
    def symbols(self) -> list[str]:
        """The unified symbols of which something is subscribed."""

    def greeting(self) -> list[str | bytes]:
        """What the exchange says as soon as the connection is open."""
        return []

    @abstractmethod
    def receive(self, message: str | bytes) -> list[str | bytes]:
        """What the exchange answers at once to a client's message."""

    @abstractmethod
    def messages(self, begin: int, end: int) -> list[Message]:
        """All messages with begin <= time < end (microseconds UTC), in order.

        Asked for one span of time after the other. What a new subscription is sent first (a whole book, the
        newest trades) comes with the first span after it, as it stands at `begin`.
        """


class Protocol(ABC):
    """One exchange's protocol over simulated markets, and the two doors to it: `connect` and `answer`.

    Args:
        symbols: unified symbols, as this exchange lists them.
        seed: of the markets.

    Raises:
        WrongUse: none or too many symbols, or one that this exchange would not list.
    """

    name: ClassVar[str]
    spot_quotes: ClassVar[frozenset[str]] = frozenset()
    """What its spot symbols (BTC/USDT) are quoted in."""
    linear_quotes: ClassVar[frozenset[str]] = frozenset()
    """What its perpetuals (BTC/USDT:USDT) are quoted and settled in."""
    recalled: ClassVar[int] = 0
    """How many past trades a new subscription is sent first, at most."""

    def __init__(self, symbols: Sequence[str], seed: int) -> None:
        if not symbols or len(symbols) > MAX_SYMBOLS:
            raise WrongUse(f"the simulator takes 1 to {MAX_SYMBOLS} symbols, such as {self._example()}")
        self.markets = {symbol: SimulatedMarket(seed, symbol) for symbol in symbols}
        for market in self.markets.values():
            quotes = self.spot_quotes if market.settle is None else self.linear_quotes
            if market.quote not in quotes:
                raise WrongUse(
                    f"the simulated {self.name} has no {market.symbol}: use a symbol like {self._example()}"
                )

    @classmethod
    def _example(cls) -> str:
        if cls.spot_quotes:
            return f"BTC/{max(cls.spot_quotes)}"
        quote = max(cls.linear_quotes)
        return f"BTC/{quote}:{quote}"

    def trade_id(self, market: SimulatedMarket, number: int) -> str:
        """What this exchange calls the market's trade with this number."""
        return str(number)

    def timestamp(self, milliseconds: int) -> int:
        """The time (microseconds UTC) that this exchange gives what happens in that millisecond."""
        return milliseconds * 1000

    @abstractmethod
    def connect(self, target: str) -> ProtocolSession | None:
        """A session for a websocket's path and query; None where the exchange has no such endpoint."""

    def answer(self, target: str, now: int) -> RestAnswer:
        """The answer to a GET of `target` (path and query) at `now` (microseconds UTC)."""
        parts = urlsplit(target)
        query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
        try:
            status, body = 200, self.rest(parts.path, query, -(-now // 1000))
        except Refused as refused:
            status, body = refused.status, refused.body
        return RestAnswer(status, body if isinstance(body, bytes) else msgspec.json.encode(body))

    @abstractmethod
    def rest(self, path: str, query: Query, now: int) -> Any:
        """What a GET is answered, as what JSON encodes or as encoded; of all before `now` (milliseconds).

        It depends on nothing but the markets and the arguments.

        Raises:
            Refused: by the exchange.
        """
