"""The signed webhook, against an HTTP server on this machine."""

import hashlib
import hmac
import json
import logging
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from alerts.channels.webhook import WebhookChannel, signature
from alerts.plan import Failure
from market.timeframe import MICROSECONDS
from tests.alerts.test_console import alert

NOW = 1_800_000_000 * MICROSECONDS
SECRET = "webhook-secret"


class Server:
    """Notes what it is sent, and answers as told; status 0 cuts the connection."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        self.headers: list[dict[str, str]] = []
        self.status = 204
        self.more: dict[str, str] = {}
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                server.bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
                server.headers.append(dict(self.headers))
                if not server.status:
                    self.close_connection = True
                    return
                self.send_response(server.status)
                for name, value in server.more.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/hook/path-secret"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.close()


@pytest.fixture
def channel(server: Server) -> Iterator[WebhookChannel]:
    made = WebhookChannel(server.url, SECRET, lambda: NOW)
    yield made
    made.close()


def test_what_arrives_is_signed_with_its_time(server: Server, channel: WebhookChannel) -> None:
    assert channel.send([alert(), alert(id=8, is_possible_duplicate=True)]) is None
    (body,), (headers,) = server.bodies, server.headers
    first, second = json.loads(body)["alerts"]
    assert (first["id"], first["timestamp"], first["dedupe_key"]) == (7, "2027-01-15T08:00:00Z", "k")
    assert first["payload"]["reasons"] == ["RSI(14) = 27.3 < 30 [+0.20]"]
    assert (first["is_possible_duplicate"], second["is_possible_duplicate"]) == (False, True)
    seconds = headers["X-Deltatape-Timestamp"]
    assert seconds == "1800000000"
    expected = hmac.new(SECRET.encode(), seconds.encode() + b"." + body, hashlib.sha256).hexdigest()
    assert headers["X-Deltatape-Signature"] == f"sha256={expected}"


def test_another_time_or_body_has_another_signature() -> None:
    known = signature(SECRET, "1800000000", b"{}")
    assert signature(SECRET, "1800000001", b"{}") != known
    assert signature(SECRET, "1800000000", b"{ }") != known
    assert signature("other", "1800000000", b"{}") != known


@pytest.mark.parametrize(
    ("status", "more", "expected"),
    [
        (429, {"Retry-After": "30"}, {"retry_after": 30 * MICROSECONDS}),
        (503, {"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"}, {}),
        (500, {}, {}),
        (502, {}, {"is_answer_lost": True}),
        (408, {}, {}),
        (404, {}, {"is_permanent": True}),
        (301, {"Location": "http://127.0.0.1:9/"}, {"is_permanent": True}),
        (0, {}, {"is_answer_lost": True}),
    ],
)
def test_failures_say_what_is_to_be_done(
    server: Server, channel: WebhookChannel, status: int, more: dict[str, str], expected: dict[str, Any]
) -> None:
    server.status, server.more = status, more
    failure = channel.send([alert()])
    assert failure is not None
    assert failure == Failure(failure.reason, **expected)


def test_an_address_that_nobody_listens_on_has_taken_nothing(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "deltatape")
    channel = WebhookChannel("http://127.0.0.1:9/path-secret", SECRET, lambda: NOW)
    failure = channel.send([alert()])
    channel.close()
    assert failure is not None
    assert not failure.is_answer_lost
    assert "path-secret" not in failure.reason


def test_nothing_secret_is_logged(
    server: Server, channel: WebhookChannel, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    for server.status in (204, 500, 0):
        channel.send([alert()])
    said = "".join(str(record.__dict__) for record in caplog.records)
    assert SECRET not in said
    assert "path-secret" not in said
