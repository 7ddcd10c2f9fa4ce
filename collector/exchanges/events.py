"""What an exchange's message says, in our own words: the output of every adapter's `parse`.

Levels are (price, size) texts as sent, or packed numbers where no checksum needs the texts.
Times are microseconds UTC; None where the message has none.
"""

from msgspec import Struct

from market import Timeframe, Trade
from market.levels import Levels


class TradeSeen(Struct, frozen=True, gc=False):
    """One trade (in tape order among those of one message)."""

    trade: Trade


class BookReset(Struct, frozen=True, gc=False):
    """The whole book of `symbol`: what was known before is void.

    `depth` is how many levels a side the stream keeps, where it cuts the book without saying so.
    """

    symbol: str
    timestamp: int | None
    bids: Levels
    asks: Levels
    sequence: int | None = None
    depth: int | None = None
    checksum: str | None = None


class BookDelta(Struct, frozen=True, gc=False):
    """Changed levels of `symbol`. `first_sequence`…`last_sequence` are the update ids it covers."""

    symbol: str
    timestamp: int | None
    bids: Levels
    asks: Levels
    first_sequence: int | None = None
    last_sequence: int | None = None
    checksum: str | None = None


class CandleSeen(Struct, frozen=True, gc=False):
    """A candle as the exchange streams it; `timestamp` is the message's time, `open_time` the candle's."""

    symbol: str
    timestamp: int | None
    timeframe: Timeframe
    open_time: int
    open: float
    high: float
    low: float
    close: float
    volume: float
    buy_volume: float | None
    trade_count: int | None
    is_closed: bool


class Heard(Struct, frozen=True, gc=False):
    """A known message that is not stored (ticker, heartbeat, status, pong); it may show the time.

    `last_trade_id` is the newest trade's id, where the message names it.
    """

    channel: str
    symbol: str | None = None
    timestamp: int | None = None
    last_trade_id: int | None = None


class Subscribed(Struct, frozen=True, gc=False):
    """The exchange accepted subscriptions to `channel`."""

    channel: str
    symbols: tuple[str, ...] = ()


class Refused(Struct, frozen=True, gc=False):
    """The exchange refused a request; `reason` in its own words."""

    reason: str


class Answer(Struct, frozen=True, gc=False):
    """A text to send back at once (a JSON ping's pong)."""

    text: str


class Closing(Struct, frozen=True, gc=False):
    """The exchange is about to cut the connection: connect anew."""

    reason: str


class Unhandled(Struct, frozen=True, gc=False):
    """A message of a shape that the adapter does not know."""

    shape: str


Event = (
    TradeSeen
    | BookReset
    | BookDelta
    | CandleSeen
    | Heard
    | Subscribed
    | Refused
    | Answer
    | Closing
    | Unhandled
)
