"""Which alerts go to which channels: the rules of the configuration, as a pure function of an event."""

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from msgspec import Struct

from storage.outbox import AlertRow, AlertType, Event, Severity, alert_rows

__all__ = ["SILENT", "TO_CONSOLE", "Routes", "Rule"]

_RANKS: dict[str, int] = {Severity.INFO: 0, Severity.WARNING: 1, Severity.CRITICAL: 2}


class Told(Protocol):
    """What a rule looks at: a row on its way, or one that waits."""

    @property
    def channel(self) -> str: ...
    @property
    def alert_type(self) -> str: ...
    @property
    def severity(self) -> str: ...
    @property
    def payload(self) -> Mapping[str, Any]: ...


class Rule(Struct, frozen=True, kw_only=True):
    """What becomes of the alerts that it fits; an empty tuple fits all.

    Attributes:
        channels: on which channels it is asked.
        types: kinds of alert.
        exchanges: exchange ids.
        symbols: unified symbols.
        strategies: names of strategies.
        least_confidence: an alert with a lower confidence does not fit, nor does one without any.
        least_severity: nor one that matters less.
        is_sent: whether what fits is sent; else it is stored as suppressed.
    """

    channels: tuple[str, ...] = ()
    types: tuple[AlertType, ...] = ()
    exchanges: tuple[str, ...] = ()
    symbols: tuple[str, ...] = ()
    strategies: tuple[str, ...] = ()
    least_confidence: float = 0.0
    least_severity: Severity = Severity.INFO
    is_sent: bool = True

    def fits(self, row: Told) -> bool:
        """Whether this rule decides about `row`."""
        return (
            self.is_asked(row.channel)
            and (not self.types or row.alert_type in self.types)
            and _is_among(row.payload, "exchange", self.exchanges)
            and _is_among(row.payload, "symbol", self.symbols)
            and _is_among(row.payload, "strategy", self.strategies)
            and (self.least_confidence <= 0 or _confidence(row.payload) >= self.least_confidence)
            and _RANKS[row.severity] >= _RANKS[self.least_severity]
        )

    def is_asked(self, channel: str) -> bool:
        """Whether it speaks of `channel`."""
        return not self.channels or channel in self.channels


class Routes(Struct, frozen=True):
    """The channels that there are, and the rules about them.

    On each channel the first rule that fits decides. An alert that none fits does not go there; a channel
    that no rule speaks of gets all.
    """

    channels: tuple[str, ...]
    rules: tuple[Rule, ...] = ()

    def rows(self, event: Event) -> list[AlertRow]:
        """The rows that `event` becomes, at most one a channel."""
        return list(self._decided(alert_rows(event, self.channels)))

    def _decided(self, rows: list[AlertRow]) -> Iterator[AlertRow]:
        for row in rows:
            asked = [(place, rule) for place, rule in enumerate(self.rules, 1) if rule.is_asked(row.channel)]
            fitting = next(((place, rule) for place, rule in asked if rule.fits(row)), None)
            if fitting is None:
                if not asked:
                    yield row
            elif fitting[1].is_sent:
                yield row
            else:
                yield row.suppressed(f"rule {fitting[0]}")


TO_CONSOLE = Routes(("console",))
SILENT = Routes(())


def _is_among(payload: Mapping[str, Any], name: str, wanted: tuple[str, ...]) -> bool:
    return not wanted or payload.get(name) in wanted


def _confidence(payload: Mapping[str, Any]) -> float:
    found = payload.get("confidence_score")
    return float(found) if isinstance(found, int | float) else 0.0
