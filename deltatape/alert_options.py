"""The [alerts] table of the configuration: channels, and rules that say what goes to which."""

import re
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator

from alerts.telegram.limits import MOST_CHATS
from market import DAY, MICROSECONDS
from storage.outbox import AlertType, Severity
from storage.routes import Routes, Rule

_MINUTE = 60 * MICROSECONDS
_TIME = r"([01]\d|2[0-3]):[0-5]\d"


class ChannelOptions(BaseModel):
    """One way to people; exactly one of `console`, `telegram`, `apprise` and `webhook` says which.

    `telegram` is a chat's number or a channel's @name, `apprise` a URL of Apprise's, `webhook` an address
    that gets what `secret` signs. In the hours of `quiet`, UTC, only what is critical is sent, the rest after
    them. So many as `digest_from` that wait become one message; `every` is the least time between two, in
    seconds.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    console: bool = False
    telegram: int | Annotated[str, Field(pattern=r"^(@\w+|-?\d+)$")] | None = None
    apprise: SecretStr | None = None
    webhook: SecretStr | None = None
    secret: SecretStr | None = None
    pictures: bool = True
    quiet: Annotated[str, Field(pattern=rf"^{_TIME}-{_TIME}$")] | None = None
    every: float = Field(default=0.0, ge=0, le=86_400)
    per_minute: int | None = Field(default=None, ge=1)
    digest_from: int | None = Field(default=None, ge=2)
    attempts: int = Field(default=20, ge=1)

    @model_validator(mode="after")
    def _is_one_kind(self) -> Self:
        given = [self.console, self.telegram is not None, self.apprise is not None, self.webhook is not None]
        if sum(given) != 1:
            raise ValueError("say exactly one of console, telegram, apprise and webhook")
        if (self.webhook is None) != (self.secret is None):
            raise ValueError("webhook and secret go together")
        return self

    @field_validator("webhook")
    @classmethod
    def _is_web_address(cls, url: SecretStr | None) -> SecretStr | None:
        if url and not re.match(r"https?://[^/\s]+", url.get_secret_value()):
            raise ValueError("write it like https://example.org/alerts")
        return url

    @property
    def is_group(self) -> bool:
        """Whether more than one person may read the Telegram chat: there Telegram takes less."""
        return self.telegram is not None and str(self.telegram)[:1] in "-@"

    def quiet_times(self) -> tuple[int, int] | None:
        """From when to when, in microseconds of a day."""
        if self.quiet is None:
            return None
        hours = [int(part[:2]) * 60 + int(part[3:]) for part in self.quiet.split("-")]
        return hours[0] * _MINUTE % DAY, hours[1] * _MINUTE % DAY


class RuleOptions(BaseModel):
    """What becomes of the alerts that it fits; what is left out fits all. The first that fits decides."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    channels: tuple[str, ...] = ()
    types: tuple[AlertType, ...] = ()
    exchanges: tuple[str, ...] = ()
    symbols: tuple[str, ...] = ()
    strategies: tuple[str, ...] = ()
    least_confidence: float = Field(default=0.0, ge=0, le=100)
    least_severity: Severity = Severity.INFO
    action: Literal["send", "suppress"] = "send"


class AlertOptions(BaseModel):
    """Where alerts go. A collector or a database that is silent for `down_seconds` is said to be down."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    channels: dict[Annotated[str, Field(pattern=r"^[a-z0-9_-]{1,40}$")], ChannelOptions] = Field(
        default_factory=lambda: {"console": ChannelOptions(console=True)}
    )
    rules: tuple[RuleOptions, ...] = ()
    down_seconds: float = Field(default=30.0, ge=5, le=3600)

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        unknown = {name for rule in self.rules for name in rule.channels} - self.channels.keys()
        if unknown:
            raise ValueError(f"a rule names the channel {min(unknown)!r}, and there is none")
        chats = [str(each.telegram) for each in self.channels.values() if each.telegram is not None]
        if len(set(chats)) < len(chats):
            # Each would keep Telegram's limits, and both together break them.
            raise ValueError("two channels go to one Telegram chat: make them one, with rules")
        if len(chats) > MOST_CHATS:
            raise ValueError(f"more than {MOST_CHATS} Telegram chats are more than one bot may serve at once")
        return self

    def routes(self) -> Routes:
        """What becomes of an event."""
        rules = (
            Rule(**rule.model_dump(exclude={"action"}), is_sent=rule.action == "send") for rule in self.rules
        )
        return Routes(tuple(self.channels), tuple(rules))
