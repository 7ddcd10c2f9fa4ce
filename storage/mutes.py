"""Channels that are silenced for a while: what comes meanwhile is not sent later either."""

from market.timeframe import from_datetime, to_datetime
from storage.database import Connection

__all__ = ["mute", "muted", "unmute"]


def mute(connection: Connection, channel: str, until: int) -> None:
    """Silence `channel` until `until`, in microseconds UTC; a later call replaces an earlier one.

    Critical alerts are sent all the same.
    """
    connection.execute(
        "INSERT INTO alert_mutes (channel, until_timestamp) VALUES (%s, %s)"
        " ON CONFLICT (channel) DO UPDATE SET until_timestamp = excluded.until_timestamp,"
        " created_timestamp = now()",
        (channel, to_datetime(until)),
    )


def unmute(connection: Connection, channel: str) -> bool:
    """Let `channel` be heard again; says whether it was silenced."""
    return connection.execute("DELETE FROM alert_mutes WHERE channel = %s", (channel,)).rowcount > 0


def muted(connection: Connection, now: int) -> dict[str, int]:
    """The channels that are silenced at `now`, and until when; both in microseconds UTC."""
    rows = connection.execute(
        "SELECT channel, until_timestamp FROM alert_mutes WHERE until_timestamp > %s ORDER BY channel",
        (to_datetime(now),),
    )
    return {channel: from_datetime(until) for channel, until in rows}
