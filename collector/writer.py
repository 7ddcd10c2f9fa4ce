"""Writes a session's batches onto the tape: each batch is one transaction."""

from collections.abc import Iterable, Mapping
from dataclasses import astuple
from typing import Literal

from msgspec import structs
from psycopg.errors import LockNotAvailable, UniqueViolation

from collector.exchanges.adapter import Adapter
from collector.rows import Span, StreamRows
from collector.session import TapeBatch
from collector.stream import InstrumentStream
from collector.telling import tell_found
from market import DAY, Trade
from storage import coverage, database, ledger, notify, rebuild, resume, tape
from storage.amend import amend, last_revision, lock_tapes, revised_since
from storage.clock import wall_clock
from storage.instruments import note_instruments
from storage.ledger import Status, Superseded
from storage.orphans import adopt
from storage.routes import SILENT, Routes

Origin = Literal["live", "replay"]
Proof = Literal["ids", "connection"]

CLAIM_MILLISECONDS = 200
FROZEN_SECONDS = 3.0
"""A writer whose heart has not beaten for so long, and of which the database does no work, is frozen."""


def proof_of(adapter: Adapter) -> Proof:
    """How it is known that nothing is missing in an exchange's stream of trades."""
    return "ids" if adapter.has_consecutive_ids else "connection"


class Taken(Superseded):
    """Another collector writes the instrument: this one stands by."""


class Writer:
    """The one writer of an exchange's instruments.

    A stream's rows are written as they are as long as the stream goes on from what is stored. Where trades
    came late, or into a part of the tape that has rows already, or where somebody else changed the tape, they
    are merged in and everything that depends on them is rebuilt from the rows: `merging` names those
    instruments.
    """

    def __init__(
        self, url: str, exchange: str, *, origin: Origin, proof: Proof, routes: Routes = SILENT
    ) -> None:
        self.exchange = exchange
        self.merging: set[str] = set()
        self._url = url
        self._origin: Origin = origin
        self._proof = proof
        self._routes = routes
        self._seen: set[str] = set()
        self._epochs: dict[str, int] = {}
        self._known: dict[str, int] = {}
        self._connection = self._connect()

    def _connect(self) -> database.Connection:
        connection = database.connect(self._url, application_name=f"deltatape {self._origin} {self.exchange}")
        database.require_schema(connection)
        connection.commit()
        return connection

    def reconnect(self) -> None:
        """Open the connection anew after it was lost.

        Raises:
            Unavailable: nobody answers.
            Taken: another collector has taken over meanwhile.
        """
        self._connection.close()
        self._connection = self._connect()
        try:
            for symbol in list(self._epochs):
                self.claim(symbol)
        except BaseException:
            # Without its lock this connection must not write.
            self._connection.close()
            raise

    def close(self) -> None:
        """Give the connection back; what is written is committed."""
        self._connection.close()

    # Who writes

    def claim(self, symbol: str) -> None:
        """Make this the one writer of an instrument, until the connection is closed or lost.

        One that is frozen is put out of its way.

        Raises:
            Taken: another collector writes it.
        """
        key = f"{self.exchange}:{symbol}"
        with self._connection.transaction():
            # A writer that has just ended needs a moment to be gone.
            self._connection.execute(f"SET LOCAL lock_timeout = {CLAIM_MILLISECONDS}")
            if not self._lock(key) and not (self._cut_off_frozen(symbol, key) and self._lock(key)):
                raise Taken(f"another collector writes {symbol} of {self.exchange}")
            self._epochs[symbol] = ledger.next_epoch(self._connection, self.exchange, symbol, "trades")

    def _lock(self, key: str) -> bool:
        try:
            with self._connection.transaction():
                self._connection.execute("SELECT pg_advisory_lock(hashtextextended(%s, 0))", [key])
        except LockNotAvailable:
            return False
        return True

    def _cut_off_frozen(self, symbol: str, key: str) -> bool:
        """End the sessions of a process that does nothing any more; whether it held the lock.

        These are the one that holds the lock, and those that stopped while they changed a tape: they would
        keep its lock for as long as the process is frozen.
        """
        found = self._connection.execute(
            """
            WITH wanted AS (
                SELECT hashtextextended(%(key)s, 0) AS lock, 0 AS idle
                UNION ALL
                SELECT hashtextextended('tape:' || exchange || ':' || symbol, 0), %(idle)s
                FROM stream_state WHERE exchange = %(exchange)s AND stream = 'trades'
            )
            SELECT pg_terminate_backend(holder.pid), wanted.idle
            FROM wanted
            JOIN pg_locks AS held ON ((held.classid::bigint << 32) | held.objid::bigint) = wanted.lock
            JOIN pg_stat_activity AS holder USING (pid)
            JOIN stream_state AS state
                ON state.exchange = %(exchange)s AND state.symbol = %(symbol)s AND state.stream = 'trades'
            WHERE held.locktype = 'advisory' AND held.granted AND held.objsubid = 1
                AND holder.datname = current_database()
                AND held.database = (SELECT oid FROM pg_database WHERE datname = current_database())
                AND state.updated_timestamp < clock_timestamp() - %(frozen)s * '1 s'::interval
                AND (holder.state <> 'active' OR holder.wait_event_type = 'Client')
                AND holder.state_change < clock_timestamp() - wanted.idle * '1 s'::interval
            """,
            {
                "exchange": self.exchange,
                "symbol": symbol,
                "key": key,
                "frozen": FROZEN_SECONDS,
                "idle": FROZEN_SECONDS / 2,
            },
        )
        return any(idle == 0 for _, idle in found.fetchall())

    def beat(self, statuses: Mapping[str, tuple[Status, str]]) -> None:
        """Show that this writer lives, and how its streams are.

        Raises:
            Superseded: another collector has taken over.
        """
        with self._connection.transaction():
            ledger.beat(self._connection, self.exchange, self._epochs, statuses)

    def restore(self, stream: InstrumentStream) -> None:
        """Let a live stream go on from what is stored of its instrument."""
        with self._connection.transaction():
            lock_tapes(self._connection, self.exchange, [stream.symbol])
            stored = resume.load(self._connection, self.exchange, stream.symbol)
            self._known[stream.symbol] = last_revision(self._connection)
        if stored is not None:
            stream.restore(stored)
        self.merging.discard(stream.symbol)

    # What is written

    def write(self, batch: TapeBatch) -> None:
        """Commit a batch, all of it or nothing.

        Raises:
            Superseded: another collector has taken over; nothing was written.
            psycopg.OperationalError: the database is away; nothing was written, or all of it was. Writing the
                same batch again is harmless either way.
        """
        connection = self._connection
        with connection.transaction():
            lock_tapes(connection, self.exchange, batch.rows)
            self._fence(batch)
            note_instruments(connection, batch.instruments)
            if batch.rejected:
                rejected = [
                    (message.timestamp, None, message.reason, message.raw) for message in batch.rejected
                ]
                tape.write_rejected(connection, self.exchange, rejected)
            self._choose(batch)
            streamed = {symbol: rows for symbol, rows in batch.rows.items() if symbol not in self.merging}
            unstreamed: set[str] = set()
            try:
                with connection.transaction():
                    self._stream(streamed)
            except UniqueViolation:
                # Written before, by an earlier try whose answer was lost or by somebody else.
                unstreamed = set(streamed)
            for symbol, rows in batch.rows.items():
                if symbol not in streamed or symbol in unstreamed:
                    self._merge(symbol, rows, batch.bookless.get(symbol, ()))
                elif rows.late:
                    self._merge_late(symbol, rows)
            self.merging |= unstreamed
            if any(candle.is_closed for rows in batch.rows.values() for candle in rows.candles):
                notify.notify(connection, "candles", self.exchange)

    def _fence(self, batch: TapeBatch) -> None:
        """Write only as the newest writer, and on top of the rows that the streams know."""
        epochs = {symbol: self._epochs[symbol] for symbol in batch.rows if symbol in self._epochs}
        if epochs:
            ledger.beat(self._connection, self.exchange, epochs, {})
        known = {symbol: self._known[symbol] for symbol in batch.rows if symbol in self._known}
        self.merging |= revised_since(self._connection, self.exchange, known)

    def _choose(self, batch: TapeBatch) -> None:
        """A replay is merged in where the tape has rows of its first day or later.

        So are rows whose books were given up: their candles, and those that follow, know of these books.
        """
        self.merging |= batch.bookless.keys()
        if self._origin == "live":
            return
        for symbol, rows in batch.rows.items():
            if rows.trades and symbol not in self._seen:
                self._seen.add(symbol)
                first = rows.trades[0][0].timestamp
                if tape.has_trades_since(self._connection, self.exchange, symbol, first - first % DAY):
                    self.merging.add(symbol)

    def _stream(self, batch: dict[str, StreamRows]) -> None:
        connection, exchange = self._connection, self.exchange
        trades = [row for rows in batch.values() for row in rows.trades]
        received = [time for rows in batch.values() for time in rows.received]
        tape.write_trades(connection, exchange, trades, received)
        candles = [row for rows in batch.values() for row in (*rows.candles, *rows.exchange_candles)]
        tape.write_candles(connection, exchange, candles)
        tape.write_cvd(connection, exchange, [row for rows in batch.values() for row in rows.points])
        tape.write_books(connection, exchange, [row for rows in batch.values() for row in rows.books])
        for symbol, rows in batch.items():
            for span in rows.spans:
                if span.stream == "book" and self._origin == "replay":
                    self._cover_again(symbol, span)
                else:
                    self._cover(symbol, span)
            if times := self._record_gaps(symbol, rows):
                # Time may have gone on, and rows with it, before later ids showed the hole.
                self._rebuild(symbol, times, "repair")
                self.merging.add(symbol)

    def _merge(self, symbol: str, rows: StreamRows, changed: Iterable[int]) -> None:
        """Merge rows into a tape that has some already, and rebuild what depends on those that are new.

        Whatever lies between the times `changed` is rebuilt, too.
        """
        connection, exchange = self._connection, self.exchange
        late, late_received = [trade for trade, _ in rows.late], [time for _, time in rows.late]
        trades = [*late, *(trade for trade, _ in rows.trades)]
        times = [*self._record_gaps(symbol, rows), *changed]
        if tape.write_books(connection, exchange, rows.books):
            times += [snapshot.timestamp for snapshot in rows.books]
        for span in rows.spans:
            if span.stream == "book":
                self._cover_again(symbol, span)
        cause: rebuild.Cause = "import" if self._origin == "replay" else "late_trade"
        spans = [self._stored_span(span) for span in rows.spans if span.stream == "trades"]
        amend(connection, exchange, symbol, trades, [*late_received, *rows.received], spans, cause)
        self._adopt(symbol, late)
        for span in rows.spans:
            if span.stream == "trades":
                self._move_watermark(symbol, span)
        if times:
            self._rebuild(symbol, times, cause)
        tape.write_candles(connection, exchange, rows.exchange_candles)

    def _merge_late(self, symbol: str, rows: StreamRows) -> None:
        """Merge trades that came after their time; if any is new, the stream must go on from the rows."""
        late, received = [trade for trade, _ in rows.late], [time for _, time in rows.late]
        if amend(self._connection, self.exchange, symbol, late, received, [], "late_trade"):
            self._adopt(symbol, late)
            self.merging.add(symbol)

    def _adopt(self, symbol: str, late: list[Trade]) -> None:
        """Late trades from before the coverage that there was get a place in the ledger of their own."""
        if late:
            times = [trade.timestamp for trade in late]
            adopt(
                self._connection,
                self.exchange,
                symbol,
                min(times),
                max(times) + 1,
                self._origin,
                "late_trade",
            )

    def _rebuild(self, symbol: str, times: list[int], cause: rebuild.Cause) -> None:
        """Make everything follow from the rows again, from the first to the last of `times`."""
        begin, end = min(times), max(times) + 1
        ledger.recount(self._connection, self.exchange, symbol, "trades", begin, end)
        rebuild.rebuild_changed(self._connection, self.exchange, symbol, begin, end, cause)

    # What is proven

    def _cover(self, symbol: str, span: Span) -> None:
        """Write what is proven, and how far the stream has come."""
        if span.stream == "trades":
            self._move_watermark(symbol, span)
        ledger.add_coverage(
            self._connection, self.exchange, symbol, span.stream, *astuple(self._stored_span(span))
        )

    def _cover_again(self, symbol: str, span: Span) -> None:
        """Write what is proven of a book of which some rows may be stored already."""
        self._cover(symbol, structs.replace(span, row_count=0))
        begin, end = span.from_timestamp, span.to_timestamp
        ledger.recount(self._connection, self.exchange, symbol, span.stream, begin, end)

    def _stored_span(self, span: Span) -> coverage.Span:
        proof: Proof = self._proof if span.stream == "trades" else "connection"
        return coverage.Span(
            span.from_timestamp,
            span.to_timestamp,
            span.from_id,
            span.to_id,
            proof,
            self._origin,
            span.row_count,
        )

    def _move_watermark(self, symbol: str, span: Span) -> None:
        if symbol in self._epochs:
            ledger.save_state(
                self._connection,
                self.exchange,
                symbol,
                "trades",
                watermark=span.to_id or "",
                watermark_timestamp=span.to_timestamp,
                epoch=self._epochs[symbol],
                status="live",
            )

    def _record_gaps(self, symbol: str, rows: StreamRows) -> list[int]:
        """Write what is missing; the ends of the holes in the trades that their ids show."""
        ends: list[int] = []
        for gap in rows.gaps:
            ledger.add_gap(self._connection, self.exchange, **structs.asdict(gap))
            tell_found(self._connection, self._routes, self.exchange, gap, wall_clock())
            if gap.takes_back:
                ends += (gap.from_timestamp, gap.to_timestamp)
        return ends
