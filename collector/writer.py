"""Writes a session's batches onto the tape: each batch is one transaction."""

from typing import Literal

from msgspec import structs
from psycopg.errors import LockNotAvailable, UniqueViolation

from collector.session import TapeBatch
from collector.stream import InstrumentStream, Span, StreamRows
from market import DAY, WrongUse
from storage import database, ledger, notify, rebuild, resume, tape
from storage.instruments import write_instruments

Origin = Literal["live", "replay"]
Proof = Literal["ids", "connection"]

CLAIM_MILLISECONDS = 2_000


class Writer:
    """The one writer of an exchange's instruments.

    A stream's rows are written as they are as long as the stream goes on from what is stored. Where trades
    came late, twice, or into a part of the tape that has rows already, they are merged in and everything
    that depends on them is rebuilt from the rows: `merging` names those instruments.
    """

    def __init__(self, url: str, exchange: str, *, origin: Origin, proof: Proof) -> None:
        self.exchange = exchange
        self.merging: set[str] = set()
        self._url = url
        self._origin: Origin = origin
        self._proof = proof
        self._seen: set[str] = set()
        self._epochs: dict[str, int] = {}
        self._connection = self._connect()

    def _connect(self) -> database.Connection:
        connection = database.connect(self._url, application_name=f"deltatape {self._origin} {self.exchange}")
        database.require_schema(connection)
        connection.commit()
        return connection

    def reconnect(self) -> None:
        """Open the connection anew after it was lost; raises Unavailable while nobody answers."""
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

    def claim(self, symbol: str) -> None:
        """Make this the one writer of an instrument, until the connection is closed or lost.

        Raises:
            WrongUse: another collector writes it.
        """
        key = f"{self.exchange}:{symbol}"
        with self._connection.transaction():
            # A writer that has just ended needs a moment to be gone.
            self._connection.execute(f"SET LOCAL lock_timeout = {CLAIM_MILLISECONDS}")
            try:
                self._connection.execute("SELECT pg_advisory_lock(hashtextextended(%s, 0))", [key])
            except LockNotAvailable:
                reason = f"another collector writes {symbol} of {self.exchange}: stop it first"
                raise WrongUse(reason) from None
            self._epochs[symbol] = ledger.next_epoch(self._connection, self.exchange, symbol, "trades")

    def restore(self, stream: InstrumentStream) -> None:
        """Let a live stream go on from what is stored of its instrument."""
        with self._connection.transaction():
            stored = resume.load(self._connection, self.exchange, stream.symbol)
        if stored is not None:
            stream.restore(stored)
        self.merging.discard(stream.symbol)

    def write(self, batch: TapeBatch) -> None:
        """Commit a batch, all of it or nothing.

        Raises:
            psycopg.OperationalError: the database is away; nothing was written, or all of it was. Writing the
                same batch again is harmless either way.
        """
        connection = self._connection
        with connection.transaction():
            write_instruments(connection, batch.instruments)
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
                    self._merge(symbol, rows)
                elif rows.late:
                    self._merge_late(symbol, rows)
            self.merging |= unstreamed
            if any(candle.is_closed for rows in batch.rows.values() for candle in rows.candles):
                notify.notify(connection, "candles", self.exchange)

    def _choose(self, batch: TapeBatch) -> None:
        """A replay is merged in where the tape has rows of its first day or later."""
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
                self._cover(symbol, span, span.row_count)
            if times := self._record_gaps(symbol, rows):
                # Time may have gone on, and rows with it, before later ids showed the hole.
                self._rebuild(symbol, times, "repair")
                self.merging.add(symbol)

    def _merge(self, symbol: str, rows: StreamRows) -> None:
        """Merge rows into a tape that has some already, and rebuild what depends on those that are new."""
        connection, exchange = self._connection, self.exchange
        late, late_received = [trade for trade, _ in rows.late], [time for _, time in rows.late]
        trades = [*late, *(trade for trade, _ in rows.trades)]
        inserted = tape.merge_trades(connection, exchange, trades, [*late_received, *rows.received])
        times = [trade.timestamp for trade in inserted]
        if tape.write_books(connection, exchange, rows.books):
            times += [snapshot.timestamp for snapshot in rows.books]
        for span in rows.spans:
            if self._cover(symbol, span, 0):
                times += (span.from_timestamp, span.to_timestamp)
        times += self._record_gaps(symbol, rows)
        if times:
            cause: rebuild.Cause = "import" if self._origin == "replay" else "late_trade"
            self._rebuild(symbol, times, cause)
        tape.write_candles(connection, exchange, rows.exchange_candles)

    def _merge_late(self, symbol: str, rows: StreamRows) -> None:
        """Merge trades that came after their time; if any is new, the stream must go on from the rows."""
        late = [trade for trade, _ in rows.late]
        inserted = tape.merge_trades(
            self._connection, self.exchange, late, [received for _, received in rows.late]
        )
        if inserted:
            self._rebuild(symbol, [trade.timestamp for trade in inserted], "late_trade")
            self.merging.add(symbol)

    def _rebuild(self, symbol: str, times: list[int], cause: rebuild.Cause) -> None:
        """Make everything follow from the rows again, from the first to the last of `times`."""
        begin, end = min(times), max(times) + 1
        ledger.recount(self._connection, self.exchange, symbol, "trades", begin, end)
        rebuild.rebuild(self._connection, self.exchange, symbol, begin, end, cause)

    def _cover(self, symbol: str, span: Span, row_count: int) -> bool:
        """Write what is proven, and how far the stream has come; whether that was news."""
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
        return ledger.add_coverage(
            self._connection,
            self.exchange,
            symbol,
            "trades",
            span.from_timestamp,
            span.to_timestamp,
            span.from_id,
            span.to_id,
            self._proof,
            self._origin,
            row_count,
        )

    def _record_gaps(self, symbol: str, rows: StreamRows) -> list[int]:
        """Write what is missing; the ends of the holes in the trades that their ids prove."""
        ends: list[int] = []
        for gap in rows.gaps:
            ledger.add_gap(self._connection, self.exchange, **structs.asdict(gap))
            if gap.stream == "trades" and gap.status == "confirmed":
                ends += (gap.from_timestamp, gap.to_timestamp)
        return ends
