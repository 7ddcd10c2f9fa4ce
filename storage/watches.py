"""Which instruments a chat watches: what it is shown where it names none."""

from storage.database import Connection

__all__ = ["MOST", "unwatch", "watch", "watched"]

MOST = 50
"""Instruments that one chat can watch."""


def watch(connection: Connection, chat: int, exchange: str, symbol: str) -> bool:
    """Let `chat` watch an instrument; whether it does now. It does not where it watches MOST already."""
    row = connection.execute(
        """
        WITH added AS (
            INSERT INTO chat_watches (chat_id, exchange, symbol)
            SELECT %(chat)s, %(exchange)s, %(symbol)s
            WHERE (SELECT count(*) FROM chat_watches WHERE chat_id = %(chat)s) < %(most)s
            ON CONFLICT DO NOTHING RETURNING 1)
        SELECT EXISTS (SELECT FROM added) OR EXISTS (
            SELECT FROM chat_watches WHERE (chat_id, exchange, symbol) = (%(chat)s, %(exchange)s, %(symbol)s))
        """,
        {"chat": chat, "exchange": exchange, "symbol": symbol, "most": MOST},
    ).fetchone()
    return row == (True,)


def unwatch(connection: Connection, chat: int, exchange: str, symbol: str) -> bool:
    """Let `chat` watch an instrument no more; whether it did."""
    done = connection.execute(
        "DELETE FROM chat_watches WHERE (chat_id, exchange, symbol) = (%s, %s, %s)", (chat, exchange, symbol)
    )
    return done.rowcount > 0


def watched(connection: Connection, chat: int) -> list[tuple[str, str]]:
    """Exchange and symbol of what `chat` watches, in alphabetical order."""
    rows = connection.execute(
        "SELECT exchange, symbol FROM chat_watches WHERE chat_id = %s ORDER BY exchange, symbol", (chat,)
    )
    return [(row[0], row[1]) for row in rows]
