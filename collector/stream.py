"""One instrument's stream: trades and book messages in, rows of the tape out. Pure: no I/O, no clock.

Every timed row is a function of the exchange's times. The stream's time is the largest that it has shown;
what belongs before a moment counts as come once that time has passed the moment by GRACE.
"""

from collector.book_sync import BookSync
from collector.exchanges.adapter import STREAMS, MalformedMessage, Stream
from collector.exchanges.events import BookDelta, BookReset, CandleSeen
from collector.rows import Gap, Span, StreamRows
from market import FAR_AHEAD, BookSnapshot, Candle, CandleBuilder, Cvd, Timeframe, Trade
from market.cvd import CVD_STEP
from market.timeframe import DAY, GRACE, MICROSECONDS
from storage.resume import Resume

_MINUTE = Timeframe.M1.microseconds
HOLD = MICROSECONDS
"""How long trades wait for one with an earlier id that may only be late; less than GRACE."""
MAX_HELD = 2_000
"""Trades that wait at most; beyond it the missing one counts as lost."""

IDS_A_SECOND = 100_000
"""How many ids an exchange may give to one instrument's trades in a second."""
LEAP = 30 * DAY
"""A time without anything that is longer is not filled: the next trade begins a new span."""


class InstrumentStream:
    """Builds the tape of one instrument from its events, in the order in which they come."""

    def __init__(self, symbol: str, book: BookSync, *, has_consecutive_ids: bool) -> None:
        self.symbol = symbol
        self.book = book
        self.time = 0
        self.duplicates = 0
        """Trades that came twice over the connections."""
        self.shows_book = True
        """Whether what comes now came over the book's own connection: others may be ahead of it."""
        self._book_shown = 0
        self._has_consecutive_ids = has_consecutive_ids
        self._cvd = Cvd(symbol)
        self._candles = CandleBuilder(symbol)
        self._fresh: list[Trade] = []
        self._last: Trade | None = None
        self._heard_id: int | None = None
        self._is_unbroken = False
        self._has_leapt = False
        self._refused_id = -1
        self._whole_since: int | None = None
        self._held: dict[int, tuple[Trade, int]] = {}
        self._held_until = 0
        self._book_from: int | None = None
        self._book_until = 0
        self._book_rows = 0
        self._tape_from: int | None = None
        self._covered_until = 0
        self._span_first_id: str | None = None
        self._span_rows = 0
        self._due = 0
        self._rows = StreamRows.empty()
        self._exchange_candle: CandleSeen | None = None
        self._closed_candles = 0
        self._open_candles = 0

    def restore(self, stored: Resume) -> None:
        """Go on from what is stored; what was built before counts no more."""
        self._work_off()
        self._last = stored.last
        self._heard_id = self._whole_since = stored.last_id
        self._tape_from = stored.tape_from
        self._covered_until = stored.covered_until
        self._span_first_id = stored.first_id
        self._candles = stored.candles
        self._cvd = stored.cvd
        self.time = max(self.time, stored.covered_until)
        self.book.begin_after(max(stored.book_timestamp or 0, self._candles.closed_until - 1))

    # Trades

    @property
    def last_id(self) -> int | None:
        """The newest id that was heard of; None before the first trade."""
        return self._heard_id

    @property
    def is_holding(self) -> bool:
        """Whether trades wait for one before them."""
        return bool(self._held)

    @property
    def last_trade_time(self) -> int | None:
        """The time of the newest trade, None before the first."""
        return None if self._last is None else self._last.timestamp

    def _believe(self, trade: Trade) -> None:
        """Raise MalformedMessage where the trade's id is so far ahead that it cannot be true.

        A new count of ids that begins far ahead is believed once its next one follows.
        """
        if self._is_far_ahead(trade):
            is_next, self._refused_id = trade.trade_seq == self._refused_id + 1, trade.trade_seq
            if not is_next:
                raise MalformedMessage("its id lies too far ahead of those that came")

    def _is_far_ahead(self, trade: Trade) -> bool:
        heard, last = self._heard_id, self._last
        if heard is None or last is None or trade.trade_seq - heard <= FAR_AHEAD:
            return False
        seconds = max(trade.timestamp - last.timestamp, 0) // MICROSECONDS
        return self._has_consecutive_ids and trade.trade_seq - heard > FAR_AHEAD + seconds * IDS_A_SECOND

    def trade(self, trade: Trade, received: int) -> None:
        """Take the next trade.

        One that came before is dropped; one that comes after its time was settled is kept aside as late; one
        whose id jumps ahead waits a moment for those before it, which may only be late.

        Raises:
            MalformedMessage: its id cannot be true.
        """
        if self._is_next(trade):
            self._add(trade, received)
            return
        self._believe(trade)
        time = trade.timestamp
        if time - self.time > LEAP:
            self._leap()
        if self.shows_book and time > self._book_shown:
            self._book_shown = time
        if self._is_duplicate(trade):
            self.duplicates += 1
        elif self._is_late(trade):
            self._rows.late.append((trade, received))
            self._hear_late(trade)
        elif self._is_unbroken and self._is_ahead(trade):
            self._hold(trade, received)
        else:
            self._follow(trade, received)
            if self._held:
                self._take_held()

    def _is_next(self, trade: Trade) -> bool:
        """Whether it is what it nearly always is: the next one, in time, of an unbroken stream."""
        last, time = self._last, trade.timestamp
        return (
            self._is_unbroken
            and not self._held
            and last is not None
            and (trade.trade_seq - 1 == self._heard_id or not self._has_consecutive_ids)
            and (time > last.timestamp or trade.order > last.order)
            and self._candles.closed_until <= time <= self.time + LEAP
            and time >= self._cvd.settled_until
        )

    def _follow(self, trade: Trade, received: int) -> None:
        if not self._is_unbroken or self._has_hole_before(trade):
            self._connect(trade)
        self._add(trade, received)

    def _add(self, trade: Trade, received: int) -> None:
        self._fresh.append(trade)
        self._rows.received.append(received)
        self._last = trade
        self._heard_id = trade.trade_seq
        self._span_rows += 1
        self.show(trade.timestamp + 1)

    def _work_off(self) -> None:
        """Make rows, CVD and candles of the trades that were added: many together, all of one span."""
        if fresh := self._fresh:
            cvds = self._cvd.add(fresh)
            self._candles.add_trades(fresh, cvds)
            self._rows.trades += zip(fresh, cvds, strict=True)
            self._fresh = []

    def _is_duplicate(self, trade: Trade) -> bool:
        """Whether this id was taken before, in the run of ids without a hole that the stream is in."""
        since, heard, last = self._whole_since, self._heard_id, self._last
        if since is None or heard is None or last is None or not self._has_consecutive_ids:
            return False
        return trade.trade_seq in self._held or (
            since <= trade.trade_seq <= heard and trade.timestamp <= last.timestamp
        )

    def _is_ahead(self, trade: Trade) -> bool:
        return (
            self._has_consecutive_ids and self._heard_id is not None and trade.trade_seq > self._heard_id + 1
        )

    def _hold(self, trade: Trade, received: int) -> None:
        if not self._held:
            self._held_until = trade.timestamp + HOLD
        self._held[trade.trade_seq] = (trade, received)
        if len(self._held) > MAX_HELD:
            self._release()
        self.show(trade.timestamp + 1)

    def _take_held(self) -> None:
        """Take those of the held trades that follow now."""
        while self._held and self._heard_id is not None:
            following = self._held.pop(self._heard_id + 1, None)
            if following is None:
                return
            self._take_or_keep_aside(*following)

    def wait_no_longer(self) -> None:
        """Nothing more comes that could fill what is missing before trades that wait, or show the time."""
        if self._held:
            self._release()

    def _release(self) -> None:
        """What is missing before the held trades counts as lost."""
        held, self._held = self._held, {}
        for number in sorted(held):
            self._take_or_keep_aside(*held[number])

    def _take_or_keep_aside(self, trade: Trade, received: int) -> None:
        if self._is_late(trade):
            self._rows.late.append((trade, received))
            self._hear_late(trade)
        else:
            self._follow(trade, received)

    def _is_late(self, trade: Trade) -> bool:
        last = self._last
        return last is not None and (
            trade.order <= last.order
            or trade.timestamp < max(self._candles.closed_until, self._cvd.settled_until)
            or self._is_just_behind(trade)
        )

    def _is_just_behind(self, trade: Trade) -> bool:
        """Whether the id is a little below the newest: ids that begin anew go back further."""
        heard = self._heard_id
        return (
            self._has_consecutive_ids
            and heard is not None
            and max(heard // 2, heard - MAX_HELD) < trade.trade_seq <= heard
        )

    def _has_hole_before(self, trade: Trade) -> bool:
        return (
            self._has_consecutive_ids and self._heard_id is not None and trade.trade_seq != self._heard_id + 1
        )

    def _hear_late(self, trade: Trade) -> None:
        """A late trade is no hole: its id was heard, and the next one follows from it."""
        heard = self._heard_id
        if self._last is None or heard is None or trade.order <= self._last.order or trade.trade_seq <= heard:
            return
        if self._is_far_ahead(trade):
            return
        if self._has_consecutive_ids and trade.trade_seq != heard + 1:
            self._rows.gaps.append(self._missing(heard + 1, self._last, trade))
            self._whole_since = trade.trade_seq
        self._heard_id = trade.trade_seq

    def _missing(self, first_id: int, last: Trade, trade: Trade) -> Gap:
        return Gap(
            symbol=self.symbol,
            stream="trades",
            from_timestamp=min(last.timestamp + 1, trade.timestamp),
            to_timestamp=trade.timestamp,
            cause="ids_missing",
            status="confirmed",
            proof="ids",
            from_id=str(first_id),
            to_id=str(trade.trade_seq - 1),
            missing_count=trade.trade_seq - first_id,
        )

    def _connect(self, trade: Trade) -> None:
        """Go on in the open span if `trade` proves that nothing is missing, else begin a new one."""
        last = self._last
        self._is_unbroken = True
        is_next = self._has_consecutive_ids and not self._has_hole_before(trade)
        if last is not None and is_next and not self._has_leapt:
            return
        # Minutes close at once: the book's seconds in them that are not due yet are left out.
        self._settle_book(trade.timestamp)
        if last is not None:
            self._break(last, trade)
        self._has_leapt = False
        self._cvd.begin_span(trade.timestamp)
        self._candles.begin_span(trade.timestamp)
        self.book.begin_after(self._candles.closed_until - 1)
        self._covered_until = trade.timestamp
        self._span_first_id = trade.trade_id
        self._whole_since = trade.trade_seq
        if self._tape_from is None:
            self._tape_from = trade.timestamp

    def _break(self, last: Trade, trade: Trade) -> None:
        """Record the hole between two trades; what the exchange showed since the first one proves nothing."""
        heard = last.trade_seq if self._heard_id is None else self._heard_id
        self._is_unbroken = False
        self._cover()
        self._is_unbroken = True
        # The span is over: what ends in it waits for nothing more. The stream may have shown more than that.
        end = min(self._covered_until, trade.timestamp)
        self._cvd.settle(end)
        self._candles.close_until(end)
        self._work_off()
        self._cvd.end_span(end)
        self._candles.end_span()
        if self._has_leapt and not self._has_hole_before(trade):
            return
        if not self._has_consecutive_ids:
            gap = self._suspected(self._covered_until, trade, "disconnected")
        elif trade.trade_seq > heard and not self._is_far_ahead(trade):
            gap = self._missing(heard + 1, last, trade)
        else:
            # An id that goes back at a later time, or far ahead, counts from anew: how many are missing?
            gap = self._suspected(last.timestamp + 1, trade, "id_reset")
        self._rows.gaps.append(gap)

    def _suspected(self, since: int, trade: Trade, cause: str) -> Gap:
        return Gap(
            symbol=self.symbol,
            stream="trades",
            from_timestamp=min(since, trade.timestamp),
            to_timestamp=trade.timestamp,
            cause=cause,
            status="suspected",
            proof="connection",
        )

    # The order book

    def book_reset(self, event: BookReset) -> None:
        """Take a whole book."""
        self._take_books(self.book.reset(event, self.time))
        if event.timestamp is not None:
            self.show(event.timestamp)

    def book_delta(self, event: BookDelta) -> None:
        """Take changed levels of the book."""
        if books := self.book.delta(event):
            self._take_books(books)
        if event.timestamp is not None:
            self.show(event.timestamp)

    def _take_books(self, books: list[BookSnapshot]) -> None:
        for snapshot in books:
            self._rows.books.append(snapshot)
            self._candles.add_snapshot(snapshot)
            if snapshot.timestamp != self._book_until:
                self._cover_book()
                self._book_from = snapshot.timestamp
            self._book_until = snapshot.timestamp + MICROSECONDS
            self._book_rows += 1

    # Candles that the exchange streams

    def candle(self, event: CandleSeen) -> None:
        """Take the exchange's candle; it is kept once it is final and where no trade coverage reaches."""
        before, self._exchange_candle = self._exchange_candle, event
        if event.is_closed:
            self._keep_exchange_candle(event)
        elif before is not None and not before.is_closed and before.open_time < event.open_time:
            self._keep_exchange_candle(before)
        if event.timestamp is not None:
            self.show(event.timestamp)

    def _keep_exchange_candle(self, event: CandleSeen) -> None:
        end = event.open_time + event.timeframe.microseconds
        if self._tape_from is not None and end > self._tape_from:
            return
        self._rows.exchange_candles.append(
            Candle(
                symbol=self.symbol,
                timeframe=event.timeframe,
                timestamp=event.open_time,
                open=event.open,
                high=event.high,
                low=event.low,
                close=event.close,
                volume=event.volume,
                buy_volume=event.buy_volume,
                trade_count=event.trade_count,
                is_closed=True,
                source="exchange",
            )
        )

    # Time

    def show(self, time: int) -> None:
        """The exchange showed that it is at least `time`."""
        if time - self.time > LEAP:
            self._leap()
        if time > self.time:
            self.time = time
        if self.shows_book and time > self._book_shown:
            self._book_shown = time
        if self._held and self.time >= self._held_until:
            self._release()
        if self.time >= self._due:
            self._settle()

    def _leap(self) -> None:
        """Time goes on by so much at once that nobody wants what was quiet in between: the span ends here.

        Where ids or the connection prove that nothing was traded, that is no hole.
        """
        is_proven = self._is_unbroken or self._has_consecutive_ids
        if self._last is None or not self.time or not is_proven:
            return
        if self._is_unbroken:
            self.disconnected(frozenset(("trades",)))
        self._has_leapt = True

    def silent_until(self, time: int, *, shows_book: bool = True) -> None:
        """No message came, and the exchange's clock stands at about `time`: as `show`, with more caution.

        `shows_book`: the book's connection lives, so that no change means the same book.
        """
        if self._is_unbroken or self.book.is_live:
            self.shows_book = shows_book
            if not shows_book:
                self.book.doubt("silent")
            self.show(time - GRACE)

    def disconnected(self, streams: frozenset[Stream] = STREAMS, cause: str = "disconnected") -> None:
        """The connection of these streams was lost.

        Of trades nothing is proven until the next one, the book is stale.
        """
        if "trades" in streams:
            if self._held:
                self._release()
            self._settle(is_last=True)
            self._cover()
            self._is_unbroken = False
        if "book" in streams:
            self._settle_book(self.time)
            self.book.stop(cause)

    def _settle(self, *, is_last: bool = False) -> None:
        """Give out the book snapshots that are due, and settle what CVD points and candles are."""
        settled = self.time - GRACE
        self._settle_book(self.time)
        if self._is_unbroken and self._cvd.settled_until + CVD_STEP <= settled:
            self._cvd.settle(settled)
        minute = self.time - self.time % _MINUTE
        is_waiting = False
        if self._candles.closed_until < minute:
            self._candles.close_until(self._closable_until(is_last=is_last))
            # A book that begins later begins after the candles that closed without it.
            self.book.begin_after(self._candles.closed_until - 1)
            is_waiting = self._is_unbroken and self._candles.closed_until < minute
        self._due = self.time if is_waiting else min(self._next_due(settled) + GRACE, minute + _MINUTE)

    def _next_due(self, settled: int) -> int:
        """The second that is to be settled next: a live book's own changes settle those before them."""
        second = settled - settled % MICROSECONDS + MICROSECONDS
        if self.book.is_live and self.book.next_second is not None:
            second = max(second, self.book.next_second)
        return min(second, self._cvd.settled_until + CVD_STEP) if self._is_unbroken else second

    def _settle_book(self, time: int) -> None:
        """Give out the snapshots that are due at `time`, as far as the book's own connection has come."""
        self._take_books(self.book.settle(min(time, self._book_shown) - GRACE))

    def _closable_until(self, *, is_last: bool) -> int:
        """Candles that end by this time may close: a later trade has come and every book snapshot too."""
        if not self._is_unbroken or self._last is None:
            return 0
        later_trade = self._last.timestamp
        if self.book.is_live and not is_last:
            later_trade = min(later_trade, self.book.time)
        return max(self.time - GRACE, later_trade)

    # What is to be written

    @property
    def candle_count(self) -> int:
        """The candles given out so far, each once."""
        return self._closed_candles + self._open_candles

    def take(self) -> StreamRows:
        """The rows that came since the last call."""
        self._cover()
        self._cover_book()
        self._work_off()
        self._rows.gaps += [
            Gap(
                symbol=self.symbol,
                stream="book",
                from_timestamp=stale.from_timestamp,
                to_timestamp=stale.to_timestamp,
                cause=stale.cause,
                status="unhealable",
                proof="connection",
            )
            for stale in self.book.breaks
        ]
        self.book.breaks.clear()
        rows, self._rows = self._rows, StreamRows.empty()
        rows.points = self._cvd.take()
        rows.candles = self._candles.take()
        if rows.candles:
            self._open_candles = sum(not candle.is_closed for candle in rows.candles)
            self._closed_candles += len(rows.candles) - self._open_candles
        self._closed_candles += len(rows.exchange_candles)
        return rows

    def _cover(self) -> None:
        if self._last is None or not (self._is_unbroken or self._span_rows):
            return
        until = self._last.timestamp + 1
        if self._is_unbroken and not self._held:
            until = max(until, self.time)
        if until > self._covered_until or self._span_rows:
            self._rows.spans.append(
                Span(
                    symbol=self.symbol,
                    stream="trades",
                    from_timestamp=self._covered_until,
                    to_timestamp=until,
                    from_id=self._span_first_id,
                    to_id=self._last.trade_id,
                    row_count=self._span_rows,
                )
            )
            self._covered_until, self._span_rows = until, 0

    def _cover_book(self) -> None:
        """Each second of which a snapshot was given out is covered, until the next one."""
        if self._book_rows and self._book_from is not None:
            self._rows.spans.append(
                Span(
                    symbol=self.symbol,
                    stream="book",
                    from_timestamp=self._book_from,
                    to_timestamp=self._book_until,
                    from_id=None,
                    to_id=None,
                    row_count=self._book_rows,
                )
            )
        self._book_from, self._book_rows = self._book_until, 0
