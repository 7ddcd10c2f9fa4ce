"""Times and names as several exchanges write them."""

from datetime import UTC, datetime, timedelta

from collector.simulator.noise import bit_at, key_of

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def microsecond_of(milliseconds: int) -> int:
    """A time in whole milliseconds with made-up microseconds, for exchanges that tell them.

    The same for all that happens in one millisecond, so that the order of times stays.
    """
    return milliseconds * 1000 + milliseconds * 7919 % 1000


def iso_time(microseconds: int) -> str:
    """RFC 3339 with six decimals."""
    moment = _EPOCH + timedelta(microseconds=microseconds)
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")


def uuid_text(key: int, index: int) -> str:
    """The UUID of `index` under `key`."""
    digits = f"{bit_at(key, index):016x}{bit_at(key_of(key, 'low'), index):016x}"
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-a{digits[17:20]}-{digits[20:]}"


def fixed(units: int, decimals: int, wanted: int) -> str:
    """`units` of 10**-decimals as text with `wanted` decimals (at least `decimals`, above 0)."""
    whole, part = divmod(units * 10 ** (wanted - decimals), 10**wanted)
    return f"{whole}.{part:0{wanted}d}"
