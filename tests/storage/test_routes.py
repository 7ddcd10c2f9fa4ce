from typing import Any

import pytest

from storage.outbox import AlertType, Event, Severity
from storage.routes import SILENT, TO_CONSOLE, Routes, Rule

SIGNAL: dict[str, Any] = {
    "exchange": "kraken",
    "symbol": "BTC/USD",
    "strategy": "composite",
    "confidence_score": 61.0,
}


def event(kind: AlertType = AlertType.SIGNAL_GENERATED, **payload: Any) -> Event:
    return Event(
        alert_type=kind, timestamp=1, title="t", message="m", dedupe_key="k", payload={**SIGNAL, **payload}
    )


def gone_to(routes: Routes, told: Event) -> dict[str, tuple[str, str | None]]:
    return {row.channel: (row.status, row.error) for row in routes.rows(told)}


def test_without_rules_everything_goes_everywhere() -> None:
    assert gone_to(Routes(("a", "b")), event()) == {"a": ("pending", None), "b": ("pending", None)}
    assert gone_to(TO_CONSOLE, event()) == {"console": ("pending", None)}
    assert gone_to(SILENT, event()) == {}


def test_the_first_rule_that_fits_decides() -> None:
    quiet = Rule(symbols=("BTC/USD",), is_sent=False)
    routes = Routes(("a",), (Rule(types=(AlertType.DATA_GAP,)), quiet, Rule()))
    assert gone_to(routes, event()) == {"a": ("suppressed", "rule 2")}
    assert gone_to(routes, event(symbol="ETH/USD")) == {"a": ("pending", None)}
    assert gone_to(routes, event(AlertType.DATA_GAP)) == {"a": ("pending", None)}


def test_a_channel_that_no_rule_speaks_of_gets_all() -> None:
    routes = Routes(("phone", "log"), (Rule(channels=("phone",), least_severity=Severity.CRITICAL),))
    assert gone_to(routes, event()) == {"log": ("pending", None)}
    assert gone_to(routes, event(AlertType.SYSTEM_ERROR)) == {
        "phone": ("pending", None),
        "log": ("pending", None),
    }


@pytest.mark.parametrize(
    ("rule", "fits"),
    [
        (Rule(exchanges=("kraken",)), True),
        (Rule(exchanges=("binance",)), False),
        (Rule(strategies=("trend", "composite")), True),
        (Rule(strategies=("trend",)), False),
        (Rule(least_confidence=61), True),
        (Rule(least_confidence=61.1), False),
        (Rule(least_severity=Severity.INFO), True),
        (Rule(least_severity=Severity.WARNING), False),
        (Rule(types=(AlertType.SIGNAL_GENERATED,), symbols=("BTC/USD",), exchanges=("kraken",)), True),
        (Rule(types=(AlertType.SIGNAL_GENERATED,), symbols=("ETH/USD",), exchanges=("kraken",)), False),
    ],
)
def test_a_rule_fits_where_all_of_it_does(rule: Rule, *, fits: bool) -> None:
    assert bool(Routes(("a",), (rule,)).rows(event())) == fits


def test_what_has_no_confidence_fits_no_rule_that_asks_for_some() -> None:
    told = Event(
        alert_type=AlertType.SYSTEM_ERROR, timestamp=1, title="t", message="m", dedupe_key="k", payload={}
    )
    assert Routes(("a",), (Rule(least_confidence=1),)).rows(told) == []
    assert Routes(("a",), (Rule(symbols=("BTC/USD",)),)).rows(told) == []
