"""A tape of some days, with books and everything that follows, whose older days may leave the database."""

from random import Random

from msgspec import structs
from streaming import EXCHANGE, HOUR, MIDNIGHT, MINUTE, SYMBOL, Span, Streaming, random_book, random_trade

from market import DAY
from storage import tape, verify
from storage.database import Connection

DAYS = 4
BEGIN = MIDNIGHT + 7 * HOUR
END = MIDNIGHT + DAYS * DAY + 3 * HOUR
NOW = END + 2 * DAY
OTHER = "ETH/USDT"
HOLE = MIDNIGHT + DAY + 9 * HOUR
"""An hour from here on nobody observed."""


def write_days(connection: Connection, seed: int = 5) -> None:
    """Trades every half an hour or so, so that it is quiet at midnight."""
    random = Random(seed)
    spans = []
    for begin, end in ((BEGIN, HOLE), (HOLE + HOUR, END)):
        between = (random.randrange(begin, end) for _ in range((end - begin) // (30 * MINUTE)))
        times = [begin, *sorted([*between, end - 10 * MINUTE])]
        spans.append(Span([random_trade(random, time, number) for number, time in enumerate(times)], end))
    books = [random_book(random, time) for time in range(BEGIN, END, 20 * MINUTE)]
    Streaming().run(spans, books).write(connection)
    connection.commit()


def write_other(connection: Connection, day: int) -> None:
    """A trade of another instrument, which keeps the day's chunk in use."""
    other = structs.replace(random_trade(Random(1), day + 11 * HOUR, 1), symbol=OTHER)
    tape.write_trades(connection, EXCHANGE, [(other, 0.0)], None)
    connection.commit()


def is_right(connection: Connection) -> bool:
    """Whether all that can be proven of the tape is."""
    connection.rollback()
    with verify.snapshot(connection, EXCHANGE, SYMBOL) as proof:
        return all(proof.prove(day).ok for day in proof.days)


def days_in(connection: Connection, table: str) -> set[int]:
    """The days of which the database holds rows of the instrument, counted from the first."""
    rows = connection.execute(
        f"SELECT DISTINCT floor(extract(epoch FROM timestamp) / 86400)::int FROM {table}".encode()
        + b" WHERE exchange = %s AND symbol = %s",
        (EXCHANGE, SYMBOL),
    ).fetchall()
    connection.rollback()
    return {number - MIDNIGHT // DAY for (number,) in rows}
