import json
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from storage.database import Connection
from storage.outbox import AlertType, Event, alert_rows, write_alerts
from storage.sending import mark_dead
from tests.alerts.test_webhook import Server

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


PHONE = """
[alerts.channels.phone]
webhook = "{url}"
secret = "s3cret-of-the-phone"
"""


@pytest.fixture
def phone() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


@pytest.fixture
def configured(tmp_path: Path, phone: Server) -> dict[str, str]:
    file = tmp_path / "alerts.toml"
    file.write_text(PHONE.format(url=phone.url))
    return {"DELTATAPE_CONFIG": str(file)}


def test_a_test_message_needs_no_database(cli: Cli, phone: Server, configured: dict[str, str]) -> None:
    away = configured | {"DELTATAPE_DATABASE_URL": "postgresql://nobody@127.0.0.1:9/none"}
    assert json.loads(ok(cli("alerts", "test", "--json", env=away))) == {"phone": "sent"}
    assert json.loads(phone.bodies[0])["alerts"][0]["alert_type"] == "test"
    ok(cli("alerts", "say", "the disk is full", "--severity", "critical", "--channel", "phone", env=away))
    (said,) = json.loads(phone.bodies[1])["alerts"]
    assert (said["message"], said["severity"]) == ("the disk is full", "critical")


def test_a_channel_that_takes_nothing_is_said_so(cli: Cli, phone: Server, configured: dict[str, str]) -> None:
    phone.status = 404
    done = cli("alerts", "test", env=configured)
    assert done.returncode == 1
    assert "the webhook answers 404" in done.stdout
    assert "path-secret" not in done.stdout + done.stderr
    done = cli("alerts", "test", "--channel", "mail", env=configured)
    assert done.returncode == 2
    assert "there are: phone" in done.stderr


@pytest.mark.usefixtures("told")
def test_show_says_all(cli: Cli) -> None:
    text = ok(cli("alerts", "show", "2"))
    assert "RSI(14) = 27.3 < 30" in text
    assert "pending" in text
    shown = json.loads(ok(cli("alerts", "show", "2", "--json")))
    assert (shown["id"], shown["timestamp"]) == (2, "2027-01-15T08:00:00.000001Z")
    done = cli("alerts", "show", "9")
    assert done.returncode == 2
    assert "there is no alert 9" in done.stderr


@pytest.mark.usefixtures("told")
def test_the_dead_are_sent_after_all(cli: Cli, connection: Connection) -> None:
    mark_dead(connection, [1, 2], "blocked")
    connection.commit()
    assert json.loads(ok(cli("alerts", "retry", "1", "--json"))) == {"again": 1}
    assert "due again: 1" in ok(cli("alerts", "retry"))
    assert cli("alerts", "retry", "77").returncode == 1
    assert json.loads(ok(cli("alerts", "run", "--once", "--json"))) == {"sent": 3, "failed": 0, "dead": 0}


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("CHANNELS", '{"a": {}}', "exactly one of console"),
        ("CHANNELS", '{"a": {"webhook": "https://example.org"}}', "webhook and secret go together"),
        ("CHANNELS", '{"a": {"webhook": "example.org", "secret": "s"}}', "write it like https://"),
        ("CHANNELS", '{"a": {"telegram": 5}, "b": {"telegram": "5"}}', "make them one"),
        ("CHANNELS", '{"a": {"console": true, "quiet": "22-7"}}', "should match pattern"),
        ("RULES", '[{"channels": ["b"]}]', "the channel 'b', and there is none"),
        ("RULES", '[{"types": ["moon"]}]', "signal_generated"),
    ],
)
def test_settings_that_cannot_be_are_refused(cli: Cli, variable: str, value: str, said: str) -> None:
    done = cli("alerts", "test", env={f"DELTATAPE_ALERTS__{variable}": value})
    assert done.returncode == 2
    assert said in done.stderr


def test_a_telegram_channel_needs_the_bots_token(cli: Cli) -> None:
    done = cli("alerts", "test", env={"DELTATAPE_ALERTS__CHANNELS": '{"a": {"telegram": 5}}'})
    assert done.returncode == 2
    assert "DELTATAPE_TELEGRAM__TOKEN" in done.stderr
