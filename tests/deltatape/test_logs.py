"""Logs for people and machines; and nothing that is logged gives a secret away."""

import json
import logging
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deltatape import logs

TOKEN = "123456789:AAF" + "x_-Y7" * 6 + "Zz"
KEY = "vmPUZE6mv9SD5VNHk4HlWFsOr6aKE2zvsw0MuIgwCIPy6utIco14y7Ju91duEh8A"
SECRET = "s3cr3t-Pa55"

LEAKS = [
    f"postgresql://me:{SECRET}@db:5432/tape",
    f"postgresql://me:{SECRET}@x@db:5432/tape",
    f"connecting to redis://:{SECRET}@cache failed",
    f"host=db password={SECRET} user=me",
    f"host=db password='{SECRET} it\\'s' user=me",
    f"PGPASSWORD={SECRET} psql",
    f"{{'apiKey': '{SECRET}', 'secret': \"{SECRET}\"}}",
    f"X-MBX-APIKEY: {SECRET}",
    f"CB-ACCESS-KEY: {SECRET}, CB-ACCESS-PASSPHRASE: {SECRET}",
    f"Authorization: Bearer {SECRET}",
    f"GET /api/v3/order?symbol=X&signature={SECRET}&timestamp=1",
    f"GET https://api.telegram.org/bot{TOKEN}/sendMessage",
    f"token {TOKEN} refused",
    f"key {KEY} is not allowed",
]


def record(message, *args, exc_info=None, **extra):
    made = logging.LogRecord("collector", logging.WARNING, "x.py", 1, message, args, exc_info)
    made.__dict__.update(extra)
    return made


def secrets_in(text):
    return [secret for secret in (SECRET, TOKEN, KEY, "AAFx", "it\\'s") if secret in text]


@pytest.mark.parametrize("formatter", [logs.TextFormatter(), logs.JsonFormatter()])
@pytest.mark.parametrize("leak", LEAKS)
def test_no_secret_gets_out(formatter, leak):
    assert secrets_in(leak)
    trouble = RuntimeError("beside")
    trouble.__cause__ = ValueError(leak)
    records = [
        record(leak),
        record("lost %s", leak),
        record("lost %s", {"url": leak}),
        record("failed", exc_info=(RuntimeError, trouble, None)),
        record("failed", url=leak),
        record("failed", api_key=KEY[:20] + SECRET, password=SECRET),
    ]
    for one in records:
        line = formatter.format(one)
        assert not secrets_in(line), line
    assert logs.MASK in formatter.format(records[0])


@pytest.mark.parametrize(
    "text",
    [
        "wss://stream.binance.com:9443/ws?streams=btcusdt@trade",
        "http://127.0.0.1:9464/metrics",
        "trade 28457-28460 of BTC/USDT at 12:00:00: no message for 75 s",
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "price 0.00000001, ids 1234567890:1234567899",
        "postgresql://me@db:5432/tape",
    ],
)
def test_what_is_no_secret_stays(text):
    assert logs.mask(text) == text


@given(st.text(string.ascii_letters + string.digits + "+%!-_", min_size=logs.SHORTEST))
def test_a_known_secret_is_hidden_wherever_it_stands(secret):
    logs.hide(secret)
    try:
        assert secret not in logs.mask(f"<{secret}>{secret}|").replace(logs.MASK, "")
    finally:
        logs._known.clear()


def test_the_databases_password_is_known_from_its_address(monkeypatch):
    monkeypatch.setenv("PGPASSWORD", "from-the-environment")
    try:
        logs.hide_connection("postgresql://me:p%40ss-word@db/tape")
        assert logs.mask("p@ss-word, p%40ss-word? no: from-the-environment") == "***, p%40ss-word? no: ***"
    finally:
        logs._known.clear()


def test_a_json_line_has_its_parts():
    line = json.loads(
        logs.JsonFormatter().format(record("%s lost\nits socket", "kraken", exchange="kraken", tries=3))
    )
    assert line["message"] == "kraken lost\nits socket"
    assert (line["level"], line["logger"]) == ("WARNING", "collector")
    assert line["fields"] == {"exchange": "kraken", "tries": 3}
    assert line["timestamp"].endswith("+00:00")


def test_every_line_of_a_command_is_json_when_asked_for(cli):
    url = f"postgresql://me:{SECRET}@127.0.0.1:1/none"
    done = cli("status", env={"DELTATAPE_LOG_FORMAT": "json", "DELTATAPE_DATABASE_URL": url})
    assert done.returncode == 3
    (line,) = [json.loads(text) for text in done.stderr.splitlines()]
    assert line["level"] == "ERROR"
    assert "cannot connect" in line["message"]
    assert SECRET not in done.stdout + done.stderr


def test_settings_say_how_to_log(cli, tmp_path):
    config = tmp_path / "deltatape.toml"
    config.write_text('log_format = "json"\nlog_level = "info"\n')
    done = cli("sql", "SELEC 1", env={"DELTATAPE_CONFIG": str(config)})
    assert done.returncode == 2
    assert json.loads(done.stderr)["level"] == "ERROR"
    config.write_text('log_level = "loud"\n')
    done = cli("status", env={"DELTATAPE_CONFIG": str(config)})
    assert done.returncode == 2
    assert "log_level" in done.stderr
