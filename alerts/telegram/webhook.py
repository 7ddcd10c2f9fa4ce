"""The webhook: Telegram brings each update to a port of this machine, and shows the secret it was told."""

from __future__ import annotations

import asyncio
import hmac
import json
import logging
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import TYPE_CHECKING, Any

from market import WrongUse

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

log = logging.getLogger(__name__)

SECRET_HEADER = "X-Telegram-Bot-Api-Secret-Token"  # noqa: S105 - a header's name
MOST_BYTES = 1_000_000
TAKE_SECONDS = 10.0


@contextmanager
def listening(listen: str, secret: str, take: Callable[[dict[str, Any]], None]) -> Iterator[int]:
    """Hand each update that comes with `secret` to `take`, in the running event loop; gives the port.

    Raises:
        WrongUse: `listen` is no address, or it cannot be had.
    """
    host, _, port = listen.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65_535:
        raise WrongUse(f"{listen!r} is no address to listen on: write it like 127.0.0.1:8443")
    loop = asyncio.get_running_loop()
    given = {"secret": secret, "loop": loop, "take": staticmethod(take)}
    try:
        server = _Server((host, int(port)), type("Handler", (_Handler,), given))
    except OSError as error:
        raise WrongUse(f"cannot listen on {listen} for Telegram: {error.strerror or error}") from None
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    timeout = TAKE_SECONDS
    secret: str
    loop: asyncio.AbstractEventLoop
    take: Callable[[dict[str, Any]], None]

    def do_POST(self) -> None:
        """An update; Telegram brings it again unless it is told 200."""
        self.send_response_only(self._status())
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _status(self) -> int:
        shown = self.headers.get(SECRET_HEADER, "")
        if not hmac.compare_digest(shown.encode(), self.secret.encode()):
            return 403
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal() or int(length) > MOST_BYTES:
            return 413
        try:
            update = json.loads(self.rfile.read(int(length)))
            self.loop.call_soon_threadsafe(self.take, update)
        except (ValueError, RuntimeError):
            # No JSON; or the loop has ended, and whoever comes next shall have it.
            return 503
        return 200

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        log.debug("%s %s", self.address_string(), format % args)


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def server_bind(self) -> None:
        # HTTPServer asks the name service for this machine's name, which may take its time.
        super(ThreadingHTTPServer, self).server_bind()
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])
