"""`/metrics` and `/health` over real sockets, and the ping that stops when something is wrong."""

import asyncio
import json
import logging
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from collector.metrics import Meter
from collector.session import Counts
from deltatape.deadman import keep_pinging
from deltatape.endpoint import Health, parse_listen, serving
from deltatape.settings import DeadmanOptions
from market import WrongUse

NOW = 1_700_000_000_000_000


def readings(exchange="kraken", **more):
    meter = Meter(exchange)
    meter.received([2_000])
    meter.committed([NOW - 10_000], NOW)
    return meter.reading(NOW, Counts(messages=12, trades=3, gaps=1), streams_live=2, **more)


def served(health, ask, listen="127.0.0.1:0"):
    """What `ask(address)` gives, asked from a thread while the endpoint runs."""

    async def run():
        with serving(listen, health) as address:
            return await asyncio.to_thread(ask, address)

    return asyncio.run(run())


def get(path):
    return lambda address: httpx.get(address + path, timeout=10)


def test_metrics_are_prometheus_text():
    health = Health(lambda: [readings(), readings("binance", stale=["A: silent"], spool_batches=4)], list)
    answer = served(health, get("/metrics"))
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=")
    samples = {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }
    assert samples["deltatape_messages_total", "kraken"] == 12
    assert samples["deltatape_gaps_total", "binance"] == 1
    assert samples["deltatape_spool_batches", "binance"] == 4
    assert samples["deltatape_streams", "kraken", "live"] == 2
    assert samples["deltatape_streams", "binance", "stale"] == 1
    assert samples["deltatape_exchange_lag_seconds", "0.99", "kraken"] == pytest.approx(0.002, rel=0.1)
    assert samples["deltatape_commit_lag_seconds", "0.5", "kraken"] == pytest.approx(0.01, rel=0.1)
    assert samples["deltatape_healthy",] == 0
    assert samples["process_resident_memory_bytes",] > 0


def test_every_number_of_a_reading_has_its_metric():
    text = served(Health(lambda: [readings()], list), get("/metrics")).text
    names = {name for name in readings().values() if not name.startswith("streams_")}
    told = {name.removesuffix("_p50").removesuffix("_p99") for name in names}
    assert {name for name in told if f"\ndeltatape_{name}" not in text} == set()


def test_health_is_ok_or_says_why_not():
    answer = served(Health(lambda: [readings()], list), get("/health"))
    assert (answer.status_code, answer.json()) == (200, {"status": "ok", "reasons": []})
    wrong = Health(lambda: [readings(stale=["BTC/USD: not connected"])], lambda: ["database: away"])
    answer = served(wrong, get("/health"))
    assert answer.status_code == 503
    assert answer.json() == {
        "status": "failing",
        "reasons": ["kraken: BTC/USD: not connected", "database: away"],
    }
    assert not wrong.is_healthy()


def test_an_event_loop_that_hangs_is_unhealthy(monkeypatch):
    monkeypatch.setattr("deltatape.endpoint.ANSWER_SECONDS", 0.2)
    answers = []

    async def run():
        with serving("127.0.0.1:0", Health(list, list)) as address:
            asking = threading.Thread(target=lambda: answers.append(get("/health")(address)))
            asking.start()
            asking.join(10)  # the loop is blocked until the answer has come
            assert not asking.is_alive()

    asyncio.run(run())
    assert answers[0].status_code == 503
    assert answers[0].json()["reasons"] == ["the event loop does not answer"]


def test_another_path_is_not_found():
    answer = served(Health(list, list), get("/"))
    assert answer.status_code == 404
    assert "/metrics" in answer.text


def test_it_listens_on_ipv6_too():
    assert served(Health(list, list), get("/health"), "[::1]:0").status_code == 200


def test_a_port_in_use_is_wrong_use():
    async def run():
        with serving("127.0.0.1:0", Health(list, list)) as address:
            again = serving(address.removeprefix("http://"), Health(list, list))
            with pytest.raises(WrongUse, match="in use"):
                again.__enter__()

    asyncio.run(run())


@pytest.mark.parametrize(
    "text",
    [
        "0.0.0.0:9464",
        "[::]:9464",
        "8.8.8.8:9464",
        "example.org:1",
        "127.0.0.1",
        ":9464",
        "127.0.0.1:x",
        "127.0.0.1:65536",
        "127.0.0.1:-1",
        "",
    ],
)
def test_addresses_that_are_refused(text):
    with pytest.raises(WrongUse):
        parse_listen(text)


def test_addresses_that_are_taken():
    assert parse_listen("127.0.0.1:9464") == ("127.0.0.1", 9464)
    assert parse_listen("localhost:0") == ("localhost", 0)
    assert parse_listen("[::1]:1") == ("::1", 1)
    assert parse_listen("10.0.0.7:9464") == ("10.0.0.7", 9464)


# The dead-man ping


class Switch(HTTPServer):
    """Counts pings, and answers each with `status`."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Ping)
        self.pings, self.status = [], 200


class Ping(BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.pings.append(self.path)
        self.send_response(self.server.status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


@contextmanager
def switch():
    with Switch() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield server, f"http://127.0.0.1:{server.server_port}/ping/my-secret-id"
        finally:
            server.shutdown()
            thread.join()


def options(url):
    # Faster than the settings allow, so that the test need not wait.
    return DeadmanOptions(url=url).model_copy(update={"every": 0.02})


async def pinging(url, is_healthy, until):
    task = asyncio.create_task(keep_pinging(options(url), is_healthy))
    deadline = time.monotonic() + 60
    while not until():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def test_it_pings_only_while_all_is_well():
    asked, healthy = [], [True]

    def is_healthy():
        asked.append(healthy[0])
        healthy[0] = len(asked) < 5
        return asked[-1]

    with switch() as (server, url):
        asyncio.run(pinging(url, is_healthy, lambda: len(asked) > 15))
    assert server.pings == ["/ping/my-secret-id"] * sum(asked)
    assert sum(asked) == 5


def test_failures_are_logged_once_a_change_and_never_the_address(caplog):
    caplog.set_level(logging.INFO, "deltatape.deadman")
    with switch() as (server, url):

        def until():
            server.status = 500 if 3 <= len(server.pings) < 8 else 200
            return len(server.pings) > 11

        asyncio.run(pinging(url, lambda: True, until))
    lines = [record.getMessage() for record in caplog.records]
    assert lines == [
        "the dead-man ping does not arrive: it answers 500",
        "the dead-man ping arrives again",
    ]
    asyncio.run(pinging("http://127.0.0.1:1/my-secret-id", lambda: True, lambda: len(caplog.records) > 2))
    assert caplog.records[2].getMessage().endswith("ConnectError")
    assert "my-secret-id" not in caplog.text


def test_without_an_address_nothing_is_pinged():
    asyncio.run(asyncio.wait_for(keep_pinging(DeadmanOptions(), lambda: True), 5))


@pytest.mark.parametrize("url", ["ftp://example.org/x", "example.org", "https://"])
def test_an_address_that_cannot_be_pinged_is_refused(url, monkeypatch, tmp_path):
    from deltatape import settings

    monkeypatch.setenv("DELTATAPE_HOME", str(tmp_path))
    monkeypatch.setenv("DELTATAPE_DEADMAN", json.dumps({"url": url}))
    with pytest.raises(WrongUse, match=r"deadman\.url"):
        settings.load()
