"""One local port for websockets and plain HTTP GETs: what the simulator and the playback are reached by."""

import asyncio
import errno
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from ipaddress import ip_address
from weakref import WeakSet

from msgspec import Struct
from websockets.asyncio.server import Server, ServerConnection
from websockets.asyncio.server import serve as serve_websockets
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from market import WrongUse

PING_SECONDS = 20
PONG_SECONDS = 60
"""A peer that answers no ping for so long is cut, as Binance does it."""
OK = 200
_MAX_MESSAGE = 1024 * 1024
CLOSE_SECONDS = 5.0
"""What a peer gets to take what was sent before its connection is closed."""
# What a peer does wrong is its own affair: nothing of it belongs on our terminal.
_PEERS = logging.getLogger("collector.listening.peers")
_PEERS.setLevel(logging.CRITICAL + 1)
_OURS = logging.getLogger("collector.listening")

Connected = Callable[[ServerConnection], Awaitable[None]]
Get = Callable[[str], Awaitable[tuple[int, bytes]]]
"""Path and query → HTTP status and JSON body."""


class Refusal(Struct, frozen=True):
    """What a request is answered instead of what it asked for."""

    status: int
    headers: tuple[tuple[str, str], ...] = ()


Refuse = Callable[[str, bool], Refusal | None]
"""Path and query, and whether a websocket is wanted → the refusal, None to let the request pass."""


class Address(Struct, frozen=True):
    """Where something listens."""

    host: str
    port: int

    @property
    def ws_url(self) -> str:
        """What `collect --ws-url` wants."""
        return f"ws://{self._authority}"

    @property
    def rest_url(self) -> str:
        """What `collect --rest-url` wants."""
        return f"http://{self._authority}"

    @property
    def _authority(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@asynccontextmanager
async def listen(
    host: str,
    port: int,
    connected: Connected,
    get: Get,
    *,
    refuse: Refuse | None = None,
    close_seconds: float = CLOSE_SECONDS,
) -> AsyncIterator[Address]:
    """Listen while the context lasts; port 0 takes a free one.

    `connected` handles each websocket on any path, `get` each other GET; `refuse` is asked first. On leaving,
    websockets are closed in order: what was sent before still arrives.

    Raises:
        WrongUse: the port is taken or not allowed, or the host is not this machine or a private network.
    """
    require_private(host)

    peers: WeakSet[ServerConnection] = WeakSet()

    class Peer(ServerConnection):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            peers.add(self)
            super().connection_made(transport)

    try:
        server = await serve_websockets(
            _handler(connected),
            host,
            port,
            process_request=_answering(get, refuse),
            create_connection=Peer,
            compression=None,
            open_timeout=None,  # a GET may have to wait for its answer
            ping_interval=PING_SECONDS,
            ping_timeout=PONG_SECONDS,
            close_timeout=close_seconds,
            max_size=_MAX_MESSAGE,
            logger=_PEERS,
        )
    except (OSError, OverflowError) as error:
        raise WrongUse(_reason(host, port, error)) from None
    try:
        yield Address(host, next(iter(server.sockets)).getsockname()[1])
    finally:
        server.close()
        await _closed(server, peers)


def _answering(
    get: Get, refuse: Refuse | None
) -> Callable[[ServerConnection, Request], Awaitable[Response | None]]:
    async def answer(_: ServerConnection, request: Request) -> Response | None:
        is_websocket = request.headers.get("Upgrade", "").lower() == "websocket"
        if refuse is not None and (refusal := refuse(request.path, is_websocket)):
            return _response(refusal.status, b"{}", refusal.headers)
        if is_websocket:
            return None
        if request.method != "GET":
            return _response(405, b"{}")
        try:
            status, body = await get(request.path)
        except Exception:  # noqa: BLE001 - logged; the peer gets an answer whatever happens
            _OURS.exception("no answer to %s", request.path)
            return _response(500, b"{}")
        return _response(status, body)

    return answer


def _handler(connected: Connected) -> Connected:
    async def handle(connection: ServerConnection) -> None:
        try:
            await connected(connection)
        except ConnectionClosed:
            pass  # the peer left
        except Exception:
            _OURS.exception("a connection failed")
            raise

    return handle


async def _closed(server: Server, peers: Iterable[ServerConnection]) -> None:
    """Wait until every peer is gone; who connected and never asked for anything is not waited for."""
    closing = asyncio.ensure_future(server.wait_closed())
    while not closing.done():
        for peer in tuple(peers):
            if peer.request is None:
                peer.transport.abort()
        await asyncio.wait({closing}, timeout=0.1)


def require_private(host: str) -> None:
    """Refuse an address that others than this machine and its private network can reach.

    Raises:
        WrongUse: it is public, every address of this machine, or not an address.
    """
    if host == "localhost":
        return
    try:
        address = ip_address(host)
    except ValueError:
        raise WrongUse(f"{host!r} is no IP address: use 127.0.0.1") from None
    if address.is_unspecified or not (address.is_loopback or address.is_private):
        raise WrongUse(f"refusing to listen on {host}: there is no authentication, use 127.0.0.1")


def _reason(host: str, port: int, error: Exception) -> str:
    if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
        return f"port {port} is in use: choose another with --port, or --port 0 for any free one"
    return f"cannot listen on {host} port {port}: {error}"


def _response(status: int, body: bytes, more: Iterable[tuple[str, str]] = ()) -> Response:
    headers = Headers(
        [
            ("Content-Type", "application/json;charset=UTF-8"),
            ("Content-Length", str(len(body))),
            ("Connection", "close"),
            *more,
        ]
    )
    return Response(status, "OK" if status == OK else "Refused", headers, body)
