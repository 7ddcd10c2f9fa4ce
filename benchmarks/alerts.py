"""From the commit of a signal's alert to the HTTP request that carries it, with a dead channel beside it.

The alerts come one at a time, as signals do: to a signed webhook, and to a Telegram chat as text and with the
picture of sixty candles, which follows. The servers are on this machine; the dead channel never answers.
"""

from __future__ import annotations

import socket
import threading
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from queue import SimpleQueue
from time import perf_counter, sleep
from typing import TYPE_CHECKING

import numpy as np

from alerts.channels.telegram import TelegramChannel
from alerts.channels.webhook import WebhookChannel
from alerts.dispatcher import Outlet
from alerts.pace import Limits
from alerts.pictures import alert_png
from alerts.run import run as dispatch
from benchmarks import Figure, Figures
from benchmarks.databases import fresh_database
from benchmarks.live import EXCHANGE, MINUTE, START, _candles
from storage.clock import wall_clock
from storage.database import Connection, connect
from storage.outbox import AlertType, Event, alert_rows, write_alerts
from storage.tape import write_candles

if TYPE_CHECKING:
    from collections.abc import Iterator

    from alerts.channels import Channel

ALERTS = 150
PAUSE = 0.08
ALERTS_WITH_PICTURE = 40
PAUSE_WITH_PICTURE = 1.0
"""Seconds between two alerts, in which a picture is drawn."""
ALLOWED_MS = 200.0
SYMBOL = "C00/USDT"
CANDLES = 200


def run() -> Figures:
    """The median and the 99th percentile of each way."""
    figures: Figures = []
    with (
        fresh_database() as url,
        connect(url, autocommit=True) as connection,
        _server() as (address, arrived),
    ):
        write_candles(connection, EXCHANGE, _candles(SYMBOL, 0, 0, CANDLES))
        draw = partial(alert_png, url, theme="dark")
        channels: dict[str, Channel] = {
            "webhook": WebhookChannel(f"{address}/hook", "secret", wall_clock),
            "Telegram": TelegramChannel("1:a", 7, address),
            "Telegram with a picture": TelegramChannel("1:a", 7, address, draw),
        }
        with _dead_address() as dead:
            for name, channel in channels.items():
                add_picture = channel.add_picture if isinstance(channel, TelegramChannel) else None
                outlets = {
                    # As little as makes calls be counted.
                    "measured": Outlet(channel, Limits(gap=1), follow_up=add_picture),
                    "dead": Outlet(WebhookChannel(dead, "secret", wall_clock)),
                }
                p50, p99 = np.percentile(_measure(url, connection, name, outlets, arrived), (50, 99)) * 1e3
                figures.append(Figure(f"from commit to request, {name}, median", float(p50), "ms"))
                figures.append(Figure(f"from commit to request, {name}, p99", float(p99), "ms", ALLOWED_MS))
    return figures


def _measure(
    url: str, connection: Connection, name: str, outlets: dict[str, Outlet], arrived: SimpleQueue[float]
) -> list[float]:
    stop = threading.Event()
    sending = threading.Thread(target=dispatch, args=(url, outlets, wall_clock, stop), daemon=True)
    sending.start()
    taken: list[float] = []
    has_picture = "picture" in name
    for number in range((ALERTS_WITH_PICTURE if has_picture else ALERTS) + 1):
        with connection.transaction():
            write_alerts(connection, alert_rows(_event(name, number), outlets))
        committed = perf_counter()
        came = arrived.get(timeout=60)
        # The first one waits for the thread to begin.
        if number:
            taken.append(came - committed)
        sleep(PAUSE_WITH_PICTURE if has_picture else PAUSE)
    connection.execute("DELETE FROM alerts")
    stop.set()
    sending.join()
    return taken


def _event(name: str, number: int) -> Event:
    close = START + CANDLES * MINUTE
    return Event(
        alert_type=AlertType.SIGNAL_GENERATED,
        timestamp=close,
        title=f"BUY {SYMBOL} 1m on {EXCHANGE} at 101.5",
        message="composite: score +0.31, confidence 57 (LOW)",
        dedupe_key=f"{name}:{number}",
        payload={
            "exchange": EXCHANGE,
            "symbol": SYMBOL,
            "interval": "1m",
            "signal_type": "BUY",
            "reasons": ["RSI(14) = 27.3 < 30 [+0.20]", "delta of 20 candles 14.2 > 0 [+0.11]"],
        },
    )


@contextmanager
def _server() -> Iterator[tuple[str, SimpleQueue[float]]]:
    """A server that says yes to everything, and when the first byte of each request was read."""
    arrived: SimpleQueue[float] = SimpleQueue()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            if "editMessageMedia" not in self.path:
                arrived.put(perf_counter())
            self.rfile.read(int(self.headers["Content-Length"]))
            body = b'{"ok":true,"result":{"message_id":1,"date":1,"chat":{"id":7,"type":"private"}}}'
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """It has nothing to say."""

    class Server(ThreadingHTTPServer):
        def handle_error(self, request: object, client_address: object) -> None:
            """A client that goes away is no error."""

    server = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", arrived
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def _dead_address() -> Iterator[str]:
    """Where connections are taken and nothing is ever answered."""
    with socket.create_server(("127.0.0.1", 0)) as held:
        yield f"http://127.0.0.1:{held.getsockname()[1]}/"
