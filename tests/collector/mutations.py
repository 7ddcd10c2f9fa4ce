"""Messages made worse, from a seed: the same number gives the same message for ever."""

import gzip
import json
from copy import deepcopy
from random import Random

from collector.exchanges.packed import MAX_UNPACKED

# fmt: off
ABSURD = (
    0, -1, 1, 7, 2**31, 2**53 + 1, 2**63, 2**64, 10**30, -(10**30), 10**400, 1.5, -0.0, 1e-320, 1e308, 1e18,
    0.1, 1e15, 253402300800000, float("nan"), float("inf"), True, False, None, "", "0", "-0", "-1", "nan",
    "NaN", "inf", "1e999", "1e-999", "1e308", "1e-300", "1_0", " 1", "٣", "0x10", "1,5", "9" * 60,
    "0." + "0" * 50 + "1", "\x00", "\ud800", "BTC/USDT", "A" * 500, "123456789.123456789", "buy", "sell",
    "update", "snapshot", "1970-01-01T00:00:00Z", "2200-01-01T00:00:00Z", (), [[]], [None], ["1"],
    {"a": {"b": []}}, [[["1", "1"]]],
)
# fmt: on
FILLINGS = [b"0", b"9" * 20, b"-1", b"1e999", b"null", b"true", b'""', b"[]", b"{}", b'"', b",", b":", b"nan"]
FILLINGS += [
    b'"nan"',
    b'"1e5"',
    b"\\u0000",
    b"1.5",
    b'"-0"',
    "€".encode(),
    b"]",
    b"}",
    b'"a":1,',
    b"\xff",
    b"[",
]


def mutated(message: bytes, random: Random) -> bytes:
    """`message`, which is JSON or text, with one to four things wrong."""
    if random.random() < 0.6:
        try:
            body = json.loads(message)
        except ValueError:
            return scrambled(message, random)
        for _ in range(random.choice((1, 1, 1, 2, 4))):
            body = _worse(body, random)
        return json.dumps(body, separators=(",", ":")).encode(errors="replace")
    return scrambled(message, random)


def scrambled(message: bytes, random: Random) -> bytes:
    """`message` with bits turned, bytes cut out, put in or doubled, or its end cut off."""
    data = bytearray(message)
    for _ in range(random.choice((1, 1, 2, 4))):
        start = random.randrange(len(data) + 1)
        end = min(len(data), start + random.randrange(12))
        match random.randrange(5):
            case 0 if start < len(data):
                data[start] ^= 1 << random.randrange(8)
            case 1:
                del data[start:end]
            case 2:
                data[start:end] = data[start:end] * 2
            case 3:
                data[start:end] = random.choice(FILLINGS)
            case _ if random.random() < 0.3:
                del data[start:]
            case _:
                data[start:start] = random.randbytes(2)
    return bytes(data)


def packed(message: bytes, random: Random) -> bytes:
    """`message` as gzip: mostly whole, else damaged, doubled, or far too large."""
    match random.randrange(20):
        case 0:
            return scrambled(gzip.compress(message, 1, mtime=0), random)
        case 1:
            return gzip.compress(message, 1, mtime=0) * 2
        case 2 if random.random() < 0.02:
            return gzip.compress(b" " * (MAX_UNPACKED + 1), 1, mtime=0)
        case _:
            return gzip.compress(message, 1, mtime=0)


def _worse(body: object, random: Random) -> object:
    """`body` with the value at one place changed, taken away, doubled or swapped with another."""
    holders = list(_holders(body))
    if not holders:
        return deepcopy(random.choice(ABSURD))
    holder = random.choice(holders)
    keys = list(holder) if isinstance(holder, dict) else list(range(len(holder)))
    key, other = random.choice(keys), random.choice(keys)
    match random.randrange(8):
        case 0:
            holder[key], holder[other] = holder[other], holder[key]
        case 1:
            del holder[key]
        case 2 if isinstance(holder, dict):
            holder[f"{key}x"] = holder.pop(key)
        case 2:
            holder.insert(key, holder[key])
        case 3:
            holder[key] = _near(holder[key], random)
        case _:
            holder[key] = deepcopy(random.choice(ABSURD))
    return body


def _near(value: object, random: Random) -> object:
    """Another value of the same kind."""
    if isinstance(value, bool) or value is None:
        return not value
    if isinstance(value, int):
        return random.choice((value + 1, value - 1, -value, value * 1000, value // 1000, value ^ (1 << 40)))
    if isinstance(value, float):
        return value * random.choice((-1, 0, 1e-9, 1e9, 1e300))
    if isinstance(value, str) and value:
        at = random.randrange(len(value))
        return value[:at] + random.choice("0123456789.-eE/_Aa") + value[at + 1 :]
    return [value]


def _holders(body: object):
    if isinstance(body, dict | list):
        if body:
            yield body
        for value in body.values() if isinstance(body, dict) else body:
            yield from _holders(value)
