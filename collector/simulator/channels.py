"""A session that is a set of subscribed channels, each of them one kind of message about one symbol."""

from collections.abc import Callable, Collection
from operator import itemgetter

from msgspec import Struct

from collector.simulator.protocol import Kind, Message, ProtocolSession

_ORDER: dict[Kind, int] = {"book": 0, "candle": 1, "trade": 2, "other": 3}
"""In which messages of the same millisecond are sent; an opening comes before all of them."""
_OPENING = -1
Texts = list[tuple[int, str]]
"""(milliseconds UTC, text), in the order of time."""


def _nothing(_now: int) -> list[str]:
    return []


class Channel(Struct, frozen=True):
    """What can be subscribed to.

    Attributes:
        kind: of its messages.
        symbol: unified, None where it is about no symbol.
        between: the messages with begin <= time < end (milliseconds).
        opening: what a new subscription is sent first, by the millisecond from which on it is sent all.
    """

    kind: Kind
    symbol: str | None
    between: Callable[[int, int], Texts]
    opening: Callable[[int], list[str]] = _nothing


class ChannelSession(ProtocolSession):
    """Sends what its channels say, merged in the order of time."""

    def __init__(self) -> None:
        self._channels: dict[str, Channel | None] = {}
        self._new: set[str] = set()
        self._asked: list[Channel] = []

    @property
    def symbols(self) -> list[str]:
        """The unified symbols of which some channel is subscribed."""
        channels = self._channels.values()
        return list(dict.fromkeys(channel.symbol for channel in channels if channel and channel.symbol))

    @property
    def names(self) -> Collection[str]:
        """Of all that is subscribed."""
        return self._channels.keys()

    def subscribe(self, name: str, channel: Channel | None) -> None:
        """Send `channel` from now on; None is a channel that is accepted and stays silent."""
        self._channels[name] = channel
        self._new.add(name)

    def unsubscribe(self, name: str) -> bool:
        """Send it no longer; whether it was subscribed."""
        self._new.discard(name)
        return self._channels.pop(name, False) is not False

    def ask(self, channel: Channel) -> None:
        """Send the opening of `channel` with the next span of time, and no more."""
        self._asked.append(channel)

    def frame(self, name: str, text: str) -> str | bytes:
        """A channel's message as it goes over the wire."""
        return text

    def messages(self, begin: int, end: int) -> list[Message]:
        """All messages with begin <= time < end (microseconds), in order."""
        first, last = -(-begin // 1000), -(-end // 1000)
        if first == last:
            return []
        found: list[tuple[int, int, Message]] = []
        for name, channel in self._channels.items():
            if channel is not None:
                found += self._of(name, channel, first, last)
        self._new.clear()
        for channel in self._asked:
            found += self._opening("", channel, first)
        self._asked.clear()
        # Ties of time and kind keep their order, so that a symbol's trades stay in the order of their ids.
        found.sort(key=itemgetter(0, 1))
        return [message for _, _, message in found]

    def _of(self, name: str, channel: Channel, first: int, last: int) -> list[tuple[int, int, Message]]:
        kind, symbol, frame = channel.kind, channel.symbol, self.frame
        found = [
            (time, _ORDER[kind], Message(time * 1000, kind, symbol, frame(name, text)))
            for time, text in channel.between(first, last)
        ]
        return found + (self._opening(name, channel, first) if name in self._new else [])

    def _opening(self, name: str, channel: Channel, first: int) -> list[tuple[int, int, Message]]:
        kind, symbol = channel.kind, channel.symbol
        return [
            (first, _OPENING, Message(first * 1000, kind, symbol, self.frame(name, text)))
            for text in channel.opening(first)
        ]
