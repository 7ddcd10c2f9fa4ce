"""Messages that an exchange sends as gzip: told by their first bytes, unpacked within a bound."""

import zlib

from collector.exchanges.adapter import MalformedMessage

MAX_UNPACKED = 16 * 1024 * 1024
"""Bytes; what unpacks to more is refused before it is whole."""
_MAGIC = b"\x1f\x8b"
_GZIP_BITS = 31


def is_packed(message: bytes) -> bool:
    """Whether `message` begins as a gzip stream does: no JSON and no text does."""
    return message.startswith(_MAGIC)


def unpack(message: bytes) -> bytes:
    """What a gzip message holds.

    Raises:
        MalformedMessage: it is damaged or breaks off, something follows it, or it unpacks to more than
            MAX_UNPACKED bytes.
    """
    unpacking = zlib.decompressobj(_GZIP_BITS)
    try:
        unpacked = unpacking.decompress(message, MAX_UNPACKED + 1)
    except zlib.error as error:
        raise MalformedMessage(f"gzip: {error}") from None
    if len(unpacked) > MAX_UNPACKED:
        raise MalformedMessage(f"unpacks to more than {MAX_UNPACKED} bytes")
    if not unpacking.eof or unpacking.unused_data:
        raise MalformedMessage("no single whole gzip stream")
    return unpacked
