"""A simulated exchange's messages, made beforehand and sent as fast as a socket takes them."""

import asyncio
import base64
import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from multiprocessing.connection import Connection
from struct import pack

from websockets.asyncio.server import ServerConnection

from collector.listening import listen
from collector.simulator.protocols.binance import Binance
from market import MICROSECONDS, parse_time

SYMBOLS = ("BTC/USDT", "ETH/USDT")
START = parse_time("2026-03-01T00:00:00Z")
CHANNELS = ("trade", "depth@100ms", "kline_1m")
_TIME = re.compile(rb'"([ET])":(\d+)')
_PIECE = 256 * 1024
_STEP = 60 * MICROSECONDS
_MAGIC = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


def minutes(exchange: Binance, hours: float, channels: Sequence[str]) -> Iterator[list[bytes]]:
    """The messages of the market's first hours, minute by minute."""
    names = [symbol.replace("/", "").lower() for symbol in SYMBOLS]
    streams = "/".join(f"{name}@{channel}" for name in names for channel in channels)
    session = exchange.connect(f"/stream?streams={streams}")
    if session is None:
        raise SystemExit("the simulator has no such endpoint")
    for begin in range(START, START + int(hours * 3600 * MICROSECONDS), _STEP):
        yield [str(sent.payload).encode() for sent in session.messages(begin, begin + _STEP)]


def hurried(text: bytes, pace: int) -> bytes:
    """The message of a trade or of a book's change, as if a second of the market took 1 / `pace` of one."""
    begin = START // 1000

    def sooner(found: re.Match[bytes]) -> bytes:
        return b'"%b":%d' % (found[1], begin + (int(found[2]) - begin) // pace)

    return _TIME.sub(sooner, text)


def frame(text: bytes) -> bytes:
    """A text as one unmasked websocket frame (RFC 6455, section 5.2)."""
    if len(text) < 126:
        return pack("!BB", 0x81, len(text)) + text
    return pack("!BBH", 0x81, 126, len(text)) + text


def serve_flood(pipe: Connection, hours: float, channels: Sequence[str], pace: int) -> None:
    """Send everything to each that connects; tells the pipe the count, the websocket's port and REST's."""
    exchange = Binance(SYMBOLS, seed=3)
    texts = [text for minute in minutes(exchange, hours, channels) for text in minute]
    if pace > 1:
        texts = [hurried(text, pace) for text in texts]
    data = b"".join(map(frame, texts))
    pieces = [data[begin : begin + _PIECE] for begin in range(0, len(data), _PIECE)]
    asyncio.run(_serve(pipe, exchange, len(texts), lambda: pieces))


def serve_stream(pipe: Connection, hours: float, channels: Sequence[str] = CHANNELS) -> None:
    """The same, made while it is sent, so that it may be of any length; the count it tells is 0."""
    exchange = Binance(SYMBOLS, seed=3)

    def pieces() -> Iterator[bytes]:
        for minute in minutes(exchange, hours, channels):
            yield b"".join(map(frame, minute))

    asyncio.run(_serve(pipe, exchange, 0, pieces))


async def _serve(
    pipe: Connection, exchange: Binance, count: int, pieces: Callable[[], Iterable[bytes]]
) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await _shake_hands(reader, writer)
            for piece in pieces():
                writer.write(piece)
                await writer.drain()
            while await reader.read(_PIECE):
                pass
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # it has seen enough, or only looked whether anyone is here
        finally:
            writer.close()

    async def answer(target: str) -> tuple[int, bytes]:
        answered = exchange.answer(target, START)
        return answered.status, answered.body

    async def connected(websocket: ServerConnection) -> None:
        await websocket.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    async with server, listen("127.0.0.1", 0, connected, answer) as rest:
        pipe.send((count, server.sockets[0].getsockname()[1], rest.port))
        await asyncio.to_thread(pipe.recv)


async def _shake_hands(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    head = await reader.readuntil(b"\r\n\r\n")
    key = head[head.lower().index(b"sec-websocket-key:") :].split(b"\r\n")[0].partition(b":")[2].strip()
    accept = base64.b64encode(hashlib.sha1(key + _MAGIC).digest())
    writer.write(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
    )
