"""Messages taken many at a time are those that were sent, however the socket cuts them."""

import asyncio
import base64
import hashlib
from random import Random
from struct import pack

import pytest
import websockets
from websockets.asyncio.client import connect

from collector.burst import MAX_PENDING, BurstConnection

MAGIC = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
PING = bytes((0x89, 2)) + b"hi"
GOODBYE = bytes((0x88, 2)) + pack("!H", 1000)
MAX_SIZE = 300_000


def frame(first, data):
    if len(data) < 126:
        return bytes((first, len(data))) + data
    if len(data) < 0x10000:
        return pack("!BBH", first, 126, len(data)) + data
    return pack("!BBQ", first, 127, len(data)) + data


def conversation(random):
    """(messages, their frames with pings and fragments between)."""
    messages, frames = [], []
    for _ in range(random.randrange(1, 60)):
        size = random.choice((0, 1, 125, 126, 127, 400, 65_535, 65_536, 200_000))
        message = random.randbytes(size)
        messages.append(message)
        opcode = random.choice((1, 2))
        if random.random() < 0.3:
            cuts = sorted(random.randrange(size + 1) for _ in range(random.randrange(1, 4)))
            parts = [message[a:b] for a, b in zip([0, *cuts], [*cuts, size], strict=True)]
            for number, part in enumerate(parts):
                first = (opcode if number == 0 else 0) | (0x80 if number == len(parts) - 1 else 0)
                frames += [frame(first, part), *[PING] * random.randrange(2)]
        else:
            frames.append(frame(0x80 | opcode, message))
        frames += [PING] * (random.random() < 0.2)
    return messages, b"".join(frames)


async def talk(data, pieces):
    """What is taken from a server that sends `data` behind its handshake in pieces of these sizes."""

    async def serve(reader, writer):
        head = await reader.readuntil(b"\r\n\r\n")
        key = head[head.lower().index(b"sec-websocket-key:") :].split(b"\r\n")[0].partition(b":")[2].strip()
        accept = base64.b64encode(hashlib.sha1(key + MAGIC).digest())
        said = (
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n" + data
        )
        while said:
            size = next(pieces)
            writer.write(said[:size])
            said = said[size:]
            await writer.drain()
            await asyncio.sleep(0)
        writer.write_eof()
        await reader.read()
        writer.close()

    taken = []
    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        options = {"compression": None, "ping_interval": None, "max_size": MAX_SIZE, "close_timeout": 1}
        async with connect(url, create_connection=BurstConnection, **options) as websocket:
            try:
                while True:
                    taken += await websocket.burst()
            except websockets.ConnectionClosed as closed:
                return taken, closed


def sizes(random):
    while True:
        yield random.choice((1, 3, 100, 5_000, 70_000, 300_000)) if random.random() < 0.2 else 50_000


@pytest.mark.parametrize("seed", range(12))
def test_whatever_is_sent_is_taken_in_order(seed):
    random = Random(seed)
    messages, data = conversation(random)
    taken, closed = asyncio.run(talk(data + GOODBYE, sizes(random)))
    assert taken == messages
    assert all(type(message) is bytes for message in taken)
    assert isinstance(closed, websockets.ConnectionClosedOK)


def test_more_messages_than_may_wait():
    messages = [b"%d" % number for number in range(10 * MAX_PENDING)]
    data = b"".join(frame(0x81, message) for message in messages)
    taken, _ = asyncio.run(talk(data + GOODBYE, iter(lambda: 3_000, None)))
    assert taken == messages


@pytest.mark.parametrize(
    ("bad", "code"),
    [
        (bytes((0x81, 0x82)) + b"mask" + b"hi", 1002),
        (bytes((0xC1, 2)) + b"hi", 1002),
        (bytes((0x80, 2)) + b"hi", 1002),
        (frame(0x01, b"a") + frame(0x81, b"b"), 1002),
        (frame(0x81, bytes(MAX_SIZE + 1)), 1009),
    ],
    ids=["masked", "reserved", "no beginning", "no end", "too large"],
)
def test_what_no_server_may_send_ends_the_connection(bad, code):
    taken, closed = asyncio.run(
        talk(frame(0x81, b"good") + bad + frame(0x81, b"late"), iter(lambda: 7_001, None))
    )
    assert taken == [b"good"]
    assert closed.sent.code == code


def test_a_connection_that_breaks_inside_a_message():
    taken, closed = asyncio.run(
        talk(frame(0x82, b"good") + frame(0x81, bytes(500))[:-1], iter(lambda: 100, None))
    )
    assert taken == [b"good"]
    assert closed.rcvd is None
