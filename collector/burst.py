"""Websocket messages many at a time: what one read of the socket brings is handed over at once."""

from struct import Struct
from typing import TYPE_CHECKING, Any

from websockets.asyncio.client import ClientConnection
from websockets.frames import DATA_OPCODES, Frame
from websockets.protocol import State

if TYPE_CHECKING:
    import asyncio

MAX_PENDING = 1000
"""Messages that wait to be taken; with more, the socket is not read."""
_LARGE = 0xFFFF
"""Bytes beyond which a message that has not come whole is gathered by the library."""
_SHORT, _LONG = Struct("!H"), Struct("!Q")
"""How the length of a frame is written that is none of 125 bytes or less."""
_WHOLE = (0x81, 0x82)
"""The first byte of a text's and a binary's only frame (RFC 6455, section 5.2)."""


class BurstConnection(ClientConnection):
    """A client's connection whose messages are taken by `burst` instead of `recv`.

    A message in one frame, as exchanges send them, is cut out of what was read without more ado. Handshakes,
    control frames, fragments, and all that is out of order go through the library.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._messages: list[bytes] = []
        self._fragments: list[bytes] = []
        self._rest = b""
        self._owed = 0
        """Bytes that are still to come of a frame that the library has begun."""
        self._is_paused = False
        self._is_lost = False
        self._waiter: asyncio.Future[None] | None = None

    async def burst(self) -> list[bytes]:
        """All messages that have come, at least one; for one task at a time.

        Raises:
            websockets.ConnectionClosed: there are no more.
        """
        while not self._messages:
            if self._is_lost:
                raise self.close_exc
            self._waiter = self.loop.create_future()
            await self._waiter
        messages, self._messages = self._messages, []
        if self._is_paused:
            self._is_paused = False
            self.transport.resume_reading()
        return messages

    def data_received(self, data: bytes) -> None:
        """Take what was read from the socket."""
        if self._owed:
            owed, data = data[: self._owed], data[self._owed :]
            self._owed -= len(owed)
            super().data_received(owed)
        if self.protocol.state is State.CONNECTING:
            head, end, data = data.partition(b"\r\n\r\n")
            super().data_received(head + end)
        data, self._rest = self._rest + data, b""
        if self.protocol.state is State.OPEN and (self._owed or not self.protocol.reader.buffer):
            self._rest = self._cut(data)
        elif data:
            super().data_received(data)
        self._tell()

    def _cut(self, data: bytes) -> bytes:
        """Take the frames that `data` begins with; what is left."""
        position, size, messages, is_fragment = 0, len(data), self._messages, bool(self._fragments)
        while size - position >= 2:
            first, length = data[position], data[position + 1]
            begin = position + 2
            if length > 125:
                if length > 127:
                    # Masked, which a server must not do: the library refuses it.
                    super().data_received(data[position:])
                    return b""
                unpack = _SHORT if length == 126 else _LONG
                begin += unpack.size
                if begin > size:
                    break
                (length,) = unpack.unpack_from(data, position + 2)
            end = begin + length
            if end <= size and first in _WHOLE and not is_fragment:
                messages.append(data[begin:end])
            elif end <= size or length > _LARGE:
                super().data_received(data[position:end])
                self._owed = max(end - size, 0)
                is_fragment = bool(self._fragments)
                if self.protocol.state is not State.OPEN:
                    super().data_received(data[end:])
                    return b""
            else:
                break
            position = end
        return data[position:]

    def process_event(self, event: Any) -> None:
        """Take what the library made out."""
        if isinstance(event, Frame) and event.opcode in DATA_OPCODES:
            self._fragments.append(bytes(event.data))
            if event.fin:
                self._messages.append(b"".join(self._fragments))
                self._fragments = []
        else:
            super().process_event(event)

    def connection_lost(self, exc: Exception | None) -> None:
        """No more will come."""
        super().connection_lost(exc)
        self._is_lost = True
        self._tell()

    def _tell(self) -> None:
        if self._waiter is not None and (self._messages or self._is_lost) and not self._waiter.done():
            self._waiter.set_result(None)
        if len(self._messages) > MAX_PENDING and not self._is_paused:
            self._is_paused = True
            self.transport.pause_reading()
