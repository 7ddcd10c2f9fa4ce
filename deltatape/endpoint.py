"""`/metrics` for Prometheus and `/health` for whoever restarts things: a port on this machine.

It answers from a thread of its own, which asks the event loop for readings: a loop that hangs is unhealthy.
"""

from __future__ import annotations

import asyncio
import errno
import json
import logging
import socket
from contextlib import contextmanager
from socketserver import ThreadingMixIn
from threading import Thread
from typing import TYPE_CHECKING, Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import CollectorRegistry, make_wsgi_app
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from collector.listening import require_private
from market import WrongUse

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from wsgiref.types import StartResponse, WSGIEnvironment

    from prometheus_client import Metric

    from collector.metrics import Readings

log = logging.getLogger(__name__)

ANSWER_SECONDS = 5.0
"""An event loop that does not answer for so long hangs."""

_COUNTERS = {
    "messages": "Messages that came.",
    "trades": "Trades that came.",
    "book_updates": "Book updates that came.",
    "gaps": "Holes that were found.",
    "healed": "Holes that were closed over REST.",
    "rejected": "Messages that could not be read.",
    "unhandled": "Messages of a shape that is not known.",
    "inexact": "Numbers that were stored as the nearest double.",
    "checksums": "Book checksums that were compared.",
    "reconnects": "Connections that were opened again.",
}
_GAUGES = {
    "messages_per_second": "Messages a second over the last 10 seconds.",
    "trades_per_second": "Trades a second over the last 10 seconds.",
    "queue_depth": "Messages that were taken and are neither written nor spooled.",
    "spool_bytes": "Bytes on disk that wait for the database.",
    "spool_batches": "Batches on disk that wait for the database.",
    "commit_age": "Seconds since anything was committed.",
}
_LAGS = {
    "exchange_lag": "Seconds from the exchange's time of a trade to its receipt, over the last minute.",
    "commit_lag": "Seconds from the receipt of a trade to its commit, over the last minute.",
}


class Health:
    """What `/health` and `/metrics` tell: the readings of every collector, and what is wrong."""

    def __init__(self, read: Callable[[], Sequence[Readings]], problems: Callable[[], Sequence[str]]) -> None:
        self._read = read
        self._problems = problems

    def readings(self) -> list[Readings]:
        """What each collector measures now."""
        return list(self._read())

    def problems(self) -> list[str]:
        """Why something is not healthy; empty while everything is."""
        found = [line for readings in self._read() for line in readings.problems()]
        return [*found, *self._problems()]

    def is_healthy(self) -> bool:
        """Whether every configured stream is live and its rows are stored, and every part runs."""
        return not self.problems()


def parse_listen(text: str) -> tuple[str, int]:
    """Host and port of `127.0.0.1:9464` or `[::1]:9464`; port 0 takes a free one.

    Raises:
        WrongUse: it is no address, or one that others than a private network can reach.
    """
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65_535:
        raise WrongUse(f"{text!r} is no address to listen on: write it like 127.0.0.1:9464")
    host = host.removeprefix("[").removesuffix("]")
    require_private(host)
    return host, int(port)


@contextmanager
def serving(listen: str, health: Health) -> Iterator[str]:
    """Answer `/metrics` and `/health` on `listen` while the context lasts, and give the URL.

    Must be entered in the event loop in which `health` may be asked.

    Raises:
        WrongUse: `listen` is no address, a public one, or taken.
    """
    host, port = parse_listen(listen)
    loop = asyncio.get_running_loop()
    try:
        kind = _Server6 if ":" in host else _Server
        server = make_server(host, port, _application(health, loop), kind, _Handler)
    except OSError as error:
        reason = "is in use" if error.errno == errno.EADDRINUSE else f"cannot be had: {error.strerror}"
        raise WrongUse(f"port {port} of {host} {reason}: choose another with --listen") from None
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True)
    thread.start()
    shown = f"[{host}]" if ":" in host else host
    try:
        yield f"http://{shown}:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _application(health: Health, loop: asyncio.AbstractEventLoop) -> Callable[..., Iterable[bytes]]:
    def ask(question: Callable[[], Any]) -> Any:
        async def answer() -> Any:
            return question()

        asking = asyncio.run_coroutine_threadsafe(answer(), loop)
        try:
            return asking.result(ANSWER_SECONDS)
        except TimeoutError:
            asking.cancel()
            raise

    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Readings(lambda: ask(lambda: (health.readings(), health.problems()))))
    ProcessCollector(registry=registry)
    metrics = make_wsgi_app(registry)

    def application(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        if path == "/metrics":
            answer: Iterable[bytes] = metrics(environ, start_response)
            return answer
        if path != "/health":
            start_response("404 Not Found", [("Content-Type", "text/plain; charset=utf-8")])
            return [b"here are /metrics and /health\n"]
        try:
            problems = ask(health.problems)
        except TimeoutError:
            problems = ["the event loop does not answer"]
        start_response(
            "503 Service Unavailable" if problems else "200 OK", [("Content-Type", "application/json")]
        )
        return [json.dumps({"status": "failing" if problems else "ok", "reasons": problems}).encode() + b"\n"]

    return application


class _Readings(Collector):
    """The collectors' readings as Prometheus names them."""

    def __init__(self, read: Callable[[], tuple[list[Readings], list[str]]]) -> None:
        self._read = read

    def collect(self) -> Iterable[Metric]:
        readings, problems = self._read()
        yield GaugeMetricFamily("deltatape_healthy", "1 while /health answers 200.", float(not problems))
        for name, text in _COUNTERS.items():
            counter = CounterMetricFamily(f"deltatape_{name}", text, labels=["exchange"])
            for one in readings:
                counter.add_metric([one.exchange], getattr(one, name))
            yield counter
        for name, text in _GAUGES.items():
            gauge = GaugeMetricFamily(
                f"deltatape_{name}" if name != "commit_age" else "deltatape_commit_age_seconds",
                text,
                labels=["exchange"],
            )
            for one in readings:
                if (value := getattr(one, name)) is not None:
                    gauge.add_metric([one.exchange], value)
            yield gauge
        for name, text in _LAGS.items():
            lag = GaugeMetricFamily(f"deltatape_{name}_seconds", text, labels=["exchange", "quantile"])
            for one in readings:
                for quantile, suffix in (("0.5", "p50"), ("0.99", "p99")):
                    if (value := getattr(one, f"{name}_{suffix}")) is not None:
                        lag.add_metric([one.exchange, quantile], value)
            yield lag
        streams = GaugeMetricFamily("deltatape_streams", "Streams by state.", labels=["exchange", "state"])
        for one in readings:
            streams.add_metric([one.exchange, "live"], one.streams_live)
            streams.add_metric([one.exchange, "stale"], len(one.stale))
        yield streams


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True

    def server_bind(self) -> None:
        # WSGIServer asks the name service for this machine's name, which may take its time.
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])
        super(WSGIServer, self).server_bind()
        self.setup_environ()


class _Server6(_Server):
    address_family = socket.AF_INET6


class _Handler(WSGIRequestHandler):
    timeout = ANSWER_SECONDS

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        log.debug("%s %s", self.address_string(), format % args)
