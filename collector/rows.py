"""What one instrument's stream has to write: rows of the tape, what is proven of it, and what is missing."""

from typing import Literal

from msgspec import Struct

from market import BookSnapshot, Candle, CvdPoint, Trade


class Gap(Struct, frozen=True, kw_only=True):
    """A hole of one stream: a row of `stream_gaps`."""

    symbol: str
    stream: Literal["trades", "book"]
    from_timestamp: int
    to_timestamp: int
    cause: str
    status: Literal["suspected", "confirmed", "unhealable"]
    proof: Literal["ids", "connection"]
    from_id: str | None = None
    to_id: str | None = None
    missing_count: int | None = None

    @property
    def takes_back(self) -> bool:
        """Whether it shows that nothing was proven between its ends, whatever was said before."""
        return self.stream == "trades" and (self.status == "confirmed" or self.cause == "id_reset")


class Span(Struct, frozen=True, kw_only=True):
    """Coverage gained: [from_timestamp, to_timestamp), ids of its first and last row where there are ids."""

    symbol: str
    stream: Literal["trades", "book"]
    from_timestamp: int
    to_timestamp: int
    from_id: str | None
    to_id: str | None
    row_count: int


class StreamRows(Struct):
    """What one instrument's stream has to write since it was last asked."""

    trades: list[tuple[Trade, float]]
    received: list[int]
    late: list[tuple[Trade, int]]
    candles: list[Candle]
    exchange_candles: list[Candle]
    points: list[CvdPoint]
    books: list[BookSnapshot]
    spans: list[Span]
    gaps: list[Gap]

    @classmethod
    def empty(cls) -> "StreamRows":
        """Nothing to write."""
        return cls(*([] for _ in cls.__struct_fields__))

    def __len__(self) -> int:
        return sum(len(getattr(self, name)) for name in self.__struct_fields__)

    def lags(self) -> list[int]:
        """The microseconds from each trade's time to its receipt."""
        return [at - trade.timestamp for at, (trade, _) in zip(self.received, self.trades, strict=True)]

    def extend(self, later: "StreamRows") -> None:
        """Take in what came after it."""
        for name in self.__struct_fields__:
            getattr(self, name).extend(getattr(later, name))
