"""Pages made of REST answers, whose edges may cut through the trades of one time.

Ids and times rise together. The trades of an answer's last time are held back until one of another time is
seen, so that every page is whole by time as well as by ids, and each begins where the one before ended.
"""

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from msgspec.json import Decoder

from collector.exchanges.adapter import MalformedMessage, TradePage, TradeRange, decode
from market import Trade

T = TypeVar("T")
MAX_HELD = 100_000
"""Trades of one time that are held back; no market has that many, so the answers never end."""
_ANY: Decoder[Any] = Decoder()


def decode_answer(decoder: Decoder[T], body: bytes | str, reason: Callable[[Any], str | None]) -> T:
    """What a REST answer holds; `reason` says what an error says, in the exchange's own words.

    Raises:
        MalformedMessage: it is an error, or damaged.
    """
    try:
        return decode(decoder, body)
    except MalformedMessage:
        words = reason(decode(_ANY, body))
        if words is not None:
            raise MalformedMessage(words[:200]) from None
        raise


class Upwards:
    """Pages of answers that go up, from the first trade that was asked for.

    Args:
        wanted: what to page through. Each end is an id where it has one, else a time.
        first_id: from which id on the answers are known to name every trade; None: from their first.
    """

    def __init__(self, wanted: TradeRange, first_id: int | None = None) -> None:
        self.is_done = False
        self.last: Trade | None = None
        """The trade of the highest id that came."""
        self._wanted = wanted
        self._first_id = first_id
        self._from: int | None = wanted.begin if wanted.first_id is None else None
        self._held: list[Trade] = []

    def take(self, trades: Iterable[Trade]) -> TradePage | None:
        """The page that the next answer completes, if it does; trades that came before count no more."""
        for trade in sorted(self._new(trades), key=lambda each: each.trade_seq):
            self.last = trade
            if self._is_before(trade):
                self._begin_after(trade)
            elif self._is_past(trade):
                self.is_done = True
                end = trade.timestamp if self._wanted.last_id is not None else self._wanted.end
                return self._page(self._held, end, trade.trade_seq - 1)
            else:
                self._hold(trade)
        if not self._held:
            return None
        ready, self._held = _cut(self._held)
        return self._page(ready, self._held[0].timestamp, self._held[0].trade_seq - 1) if ready else None

    def finish(self, *, is_all: bool = True) -> TradePage | None:
        """The last page, once the exchange said that it has no more.

        `is_all`: there are no later trades either; else only that ids do not go on.
        """
        self.is_done = True
        by_id = self._wanted.last_id is not None
        if not self._held:
            if by_id or self._from is None or not is_all:
                return None
            return self._page([], self._wanted.end, None)
        last = self._held[-1]
        end = last.timestamp + 1
        if is_all and not by_id:
            end = max(end, self._wanted.end)
        return self._page(self._held, end, last.trade_seq)

    @property
    def reached(self) -> int | None:
        """Up to which time the pages are whole, in microseconds; None before the first."""
        return self._from

    def _new(self, trades: Iterable[Trade]) -> list[Trade]:
        last = self.last
        return [trade for trade in trades if last is None or trade.trade_seq > last.trade_seq]

    def _is_before(self, trade: Trade) -> bool:
        if self._wanted.first_id is not None:
            return trade.trade_seq < self._wanted.first_id
        return trade.timestamp < self._wanted.begin

    def _begin_after(self, trade: Trade) -> None:
        self._first_id = trade.trade_seq + 1
        if self._wanted.first_id is not None:
            self._from = trade.timestamp + 1

    def _is_past(self, trade: Trade) -> bool:
        if self._wanted.last_id is None:
            return trade.timestamp >= self._wanted.end
        # A trade of the same time as the last one that was asked for belongs to that time's whole.
        is_tied = bool(self._held) and trade.timestamp <= self._held[-1].timestamp
        return trade.trade_seq > self._wanted.last_id and not is_tied

    def _hold(self, trade: Trade) -> None:
        if self._first_id is None:
            self._first_id = trade.trade_seq
        if self._from is None:
            # Trades of the same time and lower ids may not have been asked for, unless there are none.
            self._from = trade.timestamp + (self._first_id > 1)
        self._held.append(trade)
        self.is_done = self.is_done or len(self._held) > MAX_HELD

    def _page(self, trades: list[Trade], end: int, last_id: int | None) -> TradePage:
        begin, first_id = self._from, self._first_id
        if begin is None:
            begin = end
        end = max(begin, end)
        self._from = end
        self._first_id = None if last_id is None else last_id + 1
        return TradePage(
            trades=sorted(trades, key=lambda trade: trade.order),
            from_timestamp=begin,
            to_timestamp=end,
            first_id=first_id if last_id is not None else None,
            last_id=last_id if first_id is not None else None,
        )


class Downwards:
    """Pages of answers that go down, from the last trade that was asked for.

    Args:
        wanted: what to page through. Each end is an id where it has one, else a time.
    """

    def __init__(self, wanted: TradeRange) -> None:
        self.is_done = False
        self.last: Trade | None = None
        """The trade of the lowest id that came."""
        self._wanted = wanted
        self._last_id: int | None = None
        self._to: int | None = wanted.end if wanted.last_id is None else None
        self._held: list[Trade] = []

    def take(self, trades: Iterable[Trade]) -> TradePage | None:
        """The page that the next answer completes, if it does; trades that came before count no more."""
        for trade in sorted(self._new(trades), key=lambda each: each.trade_seq, reverse=True):
            self.last = trade
            if self._is_after(trade):
                self._end_before(trade)
            elif self._is_past(trade):
                self.is_done = True
                begin = trade.timestamp + 1 if self._wanted.first_id is not None else self._wanted.begin
                return self._page(self._held, begin, trade.trade_seq + 1)
            else:
                self._hold(trade)
        if not self._held:
            return None
        ready, self._held = _cut(self._held)
        return self._page(ready, self._held[0].timestamp + 1, self._held[0].trade_seq + 1) if ready else None

    def finish(self) -> TradePage | None:
        """The last page, once the exchange said that there is nothing before."""
        self.is_done = True
        by_id = self._wanted.first_id
        if not self._held:
            if by_id is not None or self._to is None:
                return None
            return self._page([], self._wanted.begin, None)
        first = self._held[-1]
        begin = first.timestamp if by_id is not None else min(first.timestamp, self._wanted.begin)
        return self._page(
            self._held, begin, min(first.trade_seq, first.trade_seq if by_id is None else by_id)
        )

    def stop(self) -> TradePage | None:
        """The last page, where the exchange does not give what is before it: whole from its first trade."""
        self.is_done = True
        if not self._held:
            return None
        first = self._held[-1]
        return self._page(self._held, first.timestamp, first.trade_seq)

    def _new(self, trades: Iterable[Trade]) -> list[Trade]:
        last = self.last
        return [trade for trade in trades if last is None or trade.trade_seq < last.trade_seq]

    def _is_after(self, trade: Trade) -> bool:
        if self._wanted.last_id is not None:
            return trade.trade_seq > self._wanted.last_id
        return trade.timestamp >= self._wanted.end

    def _end_before(self, trade: Trade) -> None:
        self._last_id = trade.trade_seq - 1
        if self._wanted.last_id is not None:
            self._to = trade.timestamp

    def _is_past(self, trade: Trade) -> bool:
        if self._wanted.first_id is None:
            return trade.timestamp < self._wanted.begin
        is_tied = bool(self._held) and trade.timestamp >= self._held[-1].timestamp
        return trade.trade_seq < self._wanted.first_id and not is_tied

    def _hold(self, trade: Trade) -> None:
        if self._last_id is None:
            self._last_id = trade.trade_seq
        if self._to is None:
            # Trades of the same time and higher ids may not have been asked for.
            self._to = trade.timestamp
        self._held.append(trade)
        self.is_done = self.is_done or len(self._held) > MAX_HELD

    def _page(self, trades: list[Trade], begin: int, first_id: int | None) -> TradePage:
        end, last_id = self._to, self._last_id
        if end is None:
            end = begin
        begin = min(begin, end)
        self._to = begin
        self._last_id = None if first_id is None else first_id - 1
        return TradePage(
            trades=sorted(trades, key=lambda trade: trade.order),
            from_timestamp=begin,
            to_timestamp=end,
            first_id=first_id if last_id is not None else None,
            last_id=last_id if first_id is not None else None,
        )


def _cut(held: list[Trade]) -> tuple[list[Trade], list[Trade]]:
    """The trades before the last time, and those of it, in the order in which they are held."""
    at = len(held) - 1
    while at and held[at - 1].timestamp == held[-1].timestamp:
        at -= 1
    return held[:at], held[at:]
