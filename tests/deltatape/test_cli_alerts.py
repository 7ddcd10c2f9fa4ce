import json
from collections.abc import Callable
from subprocess import CompletedProcess

import pytest

from storage.database import Connection
from storage.outbox import AlertType, Event, alert_rows, write_alerts

Cli = Callable[..., CompletedProcess[str]]


@pytest.fixture
def told(connection: Connection) -> None:
    for number in range(3):
        event = Event(
            alert_type=AlertType.SIGNAL_GENERATED,
            timestamp=1_800_000_000_000_000 + number,
            title=f"BUY BTC/USDT {number}",
            message="composite: score +0.31",
            dedupe_key=f"signal:{number}",
            payload={"signal_type": "BUY", "reasons": ["RSI(14) = 27.3 < 30"], "warnings": []},
        )
        write_alerts(connection, alert_rows(event))
    connection.commit()


def ok(done: CompletedProcess[str]) -> str:
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.usefixtures("told")
def test_run_once_prints_what_is_due_and_ends(cli: Cli) -> None:
    text = ok(cli("alerts", "run", "--once"))
    for number in range(3):
        assert f"BUY BTC/USDT {number}" in text
    assert text.count("RSI(14) = 27.3 < 30") == 3
    assert json.loads(ok(cli("alerts", "run", "--once", "--json"))) == {"sent": 0, "failed": 0, "dead": 0}


@pytest.mark.usefixtures("told")
def test_run_for_a_while_counts(cli: Cli) -> None:
    done = cli("alerts", "run", "--for", "1", "--json")
    assert json.loads(ok(done)) == {"sent": 3, "failed": 0, "dead": 0}
    assert "BUY BTC/USDT 2" in done.stderr


@pytest.mark.usefixtures("told")
def test_list(cli: Cli) -> None:
    listed = json.loads(ok(cli("alerts", "list", "--limit", "2", "--json")))
    assert [alert["title"] for alert in listed] == ["BUY BTC/USDT 2", "BUY BTC/USDT 1"]
    assert listed[0]["timestamp"] == "2027-01-15T08:00:00.000002Z"
    assert listed[0]["sent_timestamp"] is None
    assert "pending" in ok(cli("alerts", "list"))
    assert json.loads(ok(cli("alerts", "list", "--status", "dead", "--json"))) == []


def test_an_empty_outbox_says_what_fills_it(cli: Cli) -> None:
    assert "deltatape signals run" in ok(cli("alerts", "list"))


def test_an_unknown_status_is_refused(cli: Cli) -> None:
    done = cli("alerts", "list", "--status", "lost")
    assert done.returncode == 2
    assert "use one of pending, sent" in done.stderr
