"""What signals are computed for: one instrument on one exchange in one timeframe."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from zlib import crc32

from market.errors import WrongUse
from market.timeframe import Timeframe, from_datetime

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from storage.database import Connection


@dataclass(frozen=True, slots=True, order=True)
class Target:
    """One instrument on one exchange in one timeframe."""

    exchange: str
    symbol: str
    timeframe: Timeframe

    @property
    def instrument(self) -> tuple[str, str]:
        """Exchange and symbol: what has a tape."""
        return self.exchange, self.symbol

    def __str__(self) -> str:
        return f"{self.exchange} {self.symbol} {self.timeframe}"


@dataclass(frozen=True, slots=True)
class Share:
    """One of several parts of all instruments, about equal, so that each can have a process of its own.

    Attributes:
        part: which, from 1 on.
        of: how many there are.
    """

    part: int
    of: int

    @classmethod
    def parse(cls, text: str) -> Share:
        """The share that is written as part/of, such as 1/2.

        Raises:
            WrongUse: it is not.
        """
        part, _, of = text.partition("/")
        if not (part.isdecimal() and of.isdecimal() and 1 <= int(part) <= int(of)):
            raise WrongUse(f"no share: {text!r}; the first of two is 1/2, the second 2/2")
        return cls(int(part), int(of))

    def has(self, exchange: str, symbol: str) -> bool:
        """Whether the instrument is part of it: its name alone decides, not what else there is."""
        return crc32(f"{exchange} {symbol}".encode()) % self.of == self.part - 1


@dataclass(frozen=True, slots=True)
class Selection:
    """Which targets are meant; what is None is not restricted."""

    exchange: str | None = None
    symbols: tuple[str, ...] | None = None
    timeframes: tuple[Timeframe, ...] | None = None
    share: Share | None = None


# One step of the index per target instead of a scan of every candle.
_STORED = """
WITH RECURSIVE stored AS (
    (SELECT exchange, symbol, interval FROM candles ORDER BY exchange, symbol, interval LIMIT 1)
    UNION ALL
    SELECT following.* FROM stored, LATERAL (
        SELECT exchange, symbol, interval FROM candles
        WHERE (exchange, symbol, interval) > (stored.exchange, stored.symbol, stored.interval)
        ORDER BY exchange, symbol, interval LIMIT 1) following)
SELECT exchange, symbol, interval FROM stored
"""

_NEWEST = """
SELECT target.exchange, target.symbol, target.interval, newest.timestamp
FROM unnest(%s::text[], %s::text[], %s::text[]) AS target (exchange, symbol, interval),
LATERAL (
    SELECT timestamp FROM candles
    WHERE (exchange, symbol, interval) = (target.exchange, target.symbol, target.interval)
      AND is_closed
    ORDER BY timestamp DESC LIMIT 1) newest
"""


def stored_targets(connection: Connection, selection: Selection) -> list[Target]:
    """The selected targets of which candles are stored, in order."""
    rows = connection.execute(_STORED).fetchall()
    targets = (Target(exchange, symbol, Timeframe(name)) for exchange, symbol, name in rows)
    return sorted(target for target in targets if _is_selected(target, selection))


def newest_closed(connection: Connection, targets: Sequence[Target]) -> dict[Target, int]:
    """The open time, microseconds UTC, of each target's newest closed candle, where there is one."""
    wanted = ((target.exchange, target.symbol, target.timeframe.value) for target in targets)
    rows = connection.execute(_NEWEST, columns(wanted, 3)).fetchall()
    return {
        Target(exchange, symbol, Timeframe(name)): from_datetime(timestamp)
        for exchange, symbol, name, timestamp in rows
    }


def columns(rows: Iterable[Sequence[Any]], count: int) -> list[str]:
    """The `count` columns of some rows, as parameters for `unnest`, which casts them.

    As texts of arrays: psycopg takes several times as long for the values of a list.
    """
    return ["{" + ",".join(_elements(column)) + "}" for column in zip(*rows, strict=True)] or ["{}"] * count


def _elements(values: Sequence[Any]) -> Iterable[str]:
    """The values of a column, all of one type, in the text of an array."""
    if isinstance(values[0], str):
        return ['"' + value.replace("\\", r"\\").replace('"', r"\"") + '"' for value in values]
    if isinstance(values[0], timedelta):
        return [f"{value // timedelta(microseconds=1)} us" for value in values]
    return map(str, values)


def _is_selected(target: Target, selection: Selection) -> bool:
    return (
        selection.exchange in (None, target.exchange)
        and (selection.symbols is None or target.symbol in selection.symbols)
        and (selection.timeframes is None or target.timeframe in selection.timeframes)
        and (selection.share is None or selection.share.has(*target.instrument))
    )
