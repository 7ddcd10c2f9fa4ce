"""What is silenced for a while on a channel, as a rule of its own: what fits it is not sent later either."""

from msgspec import Struct, structs

from market.timeframe import from_datetime, to_datetime
from storage.database import Connection
from storage.outbox import AlertType
from storage.routes import Rule

__all__ = ["Mute", "mute", "muted", "unmute"]


class Mute(Struct, frozen=True, kw_only=True):
    """A channel that is silent, or something that it is silent of; an empty text fits all.

    Attributes:
        channel: by its name.
        alert_type: of this kind of alert.
        exchange: of this exchange.
        symbol: of this instrument.
        strategy: of this strategy.
        until: microseconds UTC.
    """

    channel: str
    alert_type: str = ""
    exchange: str = ""
    symbol: str = ""
    strategy: str = ""
    until: int = 0

    @property
    def subject(self) -> str:
        """What it is of, in the words that name it; empty: everything."""
        return " ".join(filter(None, (self.alert_type, self.exchange, self.symbol, self.strategy)))

    def rule(self) -> Rule:
        """The rule that fits what is silenced."""
        return Rule(
            channels=(self.channel,),
            types=(AlertType(self.alert_type),) if self.alert_type else (),
            exchanges=_only(self.exchange),
            symbols=_only(self.symbol),
            strategies=_only(self.strategy),
            is_sent=False,
        )


def mute(connection: Connection, wanted: Mute) -> None:
    """Silence something until its time; a later call about the same replaces an earlier one.

    Critical alerts are sent all the same.
    """
    connection.execute(
        "INSERT INTO alert_mutes (channel, alert_type, exchange, symbol, strategy, until_timestamp)"
        " VALUES (%(channel)s, %(alert_type)s, %(exchange)s, %(symbol)s, %(strategy)s, %(until)s)"
        " ON CONFLICT (channel, alert_type, exchange, symbol, strategy) DO UPDATE"
        " SET until_timestamp = excluded.until_timestamp, created_timestamp = now()",
        structs.asdict(wanted) | {"until": to_datetime(wanted.until)},
    )


def unmute(connection: Connection, wanted: Mute) -> int:
    """Let what `wanted` names be heard again, of a channel alone all of it; says how many."""
    return connection.execute(
        "DELETE FROM alert_mutes WHERE channel = %(channel)s AND (%(subject)s = ''"
        " OR (alert_type, exchange, symbol, strategy)"
        " = (%(alert_type)s, %(exchange)s, %(symbol)s, %(strategy)s))",
        structs.asdict(wanted) | {"subject": wanted.subject},
    ).rowcount


def muted(connection: Connection, now: int, *, channel: str | None = None) -> list[Mute]:
    """What is silenced at `now`, microseconds UTC, on all channels or on one."""
    rows = connection.execute(
        "SELECT channel, alert_type, exchange, symbol, strategy, until_timestamp FROM alert_mutes"
        " WHERE until_timestamp > %(now)s AND (%(channel)s::text IS NULL OR channel = %(channel)s)"
        " ORDER BY channel, alert_type, exchange, symbol, strategy",
        {"now": to_datetime(now), "channel": channel},
    )
    return [
        Mute(channel=name, alert_type=kind, exchange=exchange, symbol=symbol, strategy=strategy, until=until)
        for name, kind, exchange, symbol, strategy, until in (
            (*row[:5], from_datetime(row[5])) for row in rows
        )
    ]


def _only(name: str) -> tuple[str, ...]:
    return (name,) if name else ()
