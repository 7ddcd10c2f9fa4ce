"""What is said past the database, when it is away."""

import asyncio
import json
from collections.abc import Iterator

import pytest

from deltatape import settings
from deltatape.outage import Outage
from tests.alerts.test_webhook import Server


@pytest.fixture
def phone(tmp_path, monkeypatch) -> Iterator[Server]:
    server = Server()
    options = {"phone": {"webhook": server.url, "secret": "s3cret"}}
    monkeypatch.setenv("DELTATAPE_HOME", str(tmp_path))
    monkeypatch.setenv("DELTATAPE_ALERTS__CHANNELS", json.dumps(options))
    monkeypatch.setenv("DELTATAPE_ALERTS__DOWN_SECONDS", "5")
    yield server
    server.close()


def said(server):
    return [json.loads(body)["alerts"][0] for body in server.bodies]


def test_a_long_outage_is_told_once_and_its_end_too(phone, monkeypatch):
    clock = iter([0.0, 4.9, 5.0, 100.0])
    monkeypatch.setattr("deltatape.outage.elapsed", lambda: next(clock))
    outage = Outage(settings.load())

    async def away() -> None:
        for _ in range(4):
            await outage.note("the database does not answer")
        await outage.note(None)
        await outage.note(None)

    asyncio.run(away())
    assert [(each["title"], each["severity"]) for each in said(phone)] == [
        ("the database is out of reach", "critical"),
        ("the database answers again", "info"),
    ]
    assert said(phone)[0]["message"] == "the database does not answer"


def test_a_short_one_is_not(phone, monkeypatch):
    clock = iter([0.0, 4.9])
    monkeypatch.setattr("deltatape.outage.elapsed", lambda: next(clock))
    outage = Outage(settings.load())

    async def away() -> None:
        await outage.note("away")
        await outage.note("away")
        await outage.note(None)

    asyncio.run(away())
    assert said(phone) == []


def test_a_channel_that_takes_nothing_is_logged_without_its_secrets(phone, monkeypatch, caplog):
    monkeypatch.setattr("deltatape.outage.elapsed", iter([0.0, 9.0]).__next__)
    phone.status = 404
    outage = Outage(settings.load())
    asyncio.run(outage.note("away"))
    asyncio.run(outage.note("away"))
    assert "cannot tell on phone that the database is out of reach: the webhook answers 404" in caplog.text
    assert "path-secret" not in caplog.text
    asyncio.run(Outage(None).note("away"))
