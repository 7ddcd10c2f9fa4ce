"""Time as int64 microseconds since 1970-01-01 UTC, and the intervals of candles."""

from datetime import UTC, datetime, timedelta
from enum import StrEnum

from market.errors import WrongUse

MICROSECONDS = 1_000_000
DAY = 86_400 * MICROSECONDS
GRACE = 2 * MICROSECONDS
"""How far a stream's time must pass a moment before what belongs before it counts as come."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_UNIT_SECONDS = {"m": 60, "h": 3600, "d": 86_400}


class Timeframe(StrEnum):
    """The candle intervals kept on the tape; each divides the next and all divide a UTC day."""

    M1 = "1m"
    M5 = "5m"
    M15 = "15m"
    H1 = "1h"
    H4 = "4h"
    D1 = "1d"

    microseconds: int
    """Its length."""

    def __init__(self, text: str) -> None:
        self.microseconds = int(text[:-1]) * _UNIT_SECONDS[text[-1]] * MICROSECONDS

    def open_of(self, timestamp: int) -> int:
        """The open time of the bucket that holds `timestamp`, both in microseconds UTC."""
        return timestamp - timestamp % self.microseconds

    @classmethod
    def parse(cls, text: str) -> "Timeframe":
        """The timeframe named `text`.

        Raises:
            WrongUse: it is none of ours.
        """
        try:
            return cls(text)
        except ValueError:
            raise WrongUse(f"unknown timeframe {text!r}: use one of {', '.join(cls)}") from None


def to_datetime(timestamp: int) -> datetime:
    """Microseconds UTC as an aware datetime, exactly."""
    return _EPOCH + timedelta(microseconds=timestamp)


def from_datetime(moment: datetime) -> int:
    """An aware datetime as microseconds UTC, exactly."""
    return (moment - _EPOCH) // timedelta(microseconds=1)


def format_time(timestamp: int) -> str:
    """Microseconds UTC as ISO 8601 with a Z, as people see it."""
    return to_datetime(timestamp).isoformat().replace("+00:00", "Z")


def parse_time(text: str) -> int:
    """An ISO 8601 date or time (UTC unless it names an offset) as microseconds UTC.

    Raises:
        WrongUse: `text` is no such time.
    """
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise WrongUse(f"not a time: {text!r}; write it like 2026-01-31 or 2026-01-31T12:00:00Z") from None
    return from_datetime(moment if moment.tzinfo else moment.replace(tzinfo=UTC))
