"""Random numbers with random access: each is a hash of its key and its index, the same in every process.

Built on the finaliser of SplitMix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators,
2014) over integers, so that no numpy version and no processor changes a draw.
"""

from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]
Bits = NDArray[np.uint64]
Floats = NDArray[np.float64]

_MASK = (1 << 64) - 1
_STEP = 0x9E3779B97F4A7C15
_FIRST = 0xBF58476D1CE4E5B9
_SECOND = 0x94D049BB133111EB
_QUARTER = 0xFFFF
# Four uniform 16-bit integers sum to mean 4 * 65535 / 2, variance 4 * (2**32 - 1) / 12.
_SUM_MEAN = 131070.0
_SUM_DEVIATION = ((2**32 - 1) / 3) ** 0.5


def key_of(*parts: int | str) -> int:
    """A 64-bit key that differs wherever any of `parts` does."""
    text = "\x1f".join(f"{type(part).__name__}:{part}" for part in parts)
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "little")


def bits_at(key: int, index: Integers) -> Bits:
    """64 random bits for each `index` (any int64) under `key`."""
    value = index.astype(np.uint64) * np.uint64(_STEP)
    value += np.uint64(key)
    value ^= value >> np.uint64(30)
    value *= np.uint64(_FIRST)
    value ^= value >> np.uint64(27)
    value *= np.uint64(_SECOND)
    value ^= value >> np.uint64(31)
    return value


def bit_at(key: int, index: int) -> int:
    """`bits_at` for one index."""
    value = (index * _STEP + key) & _MASK
    value = ((value ^ (value >> 30)) * _FIRST) & _MASK
    value = ((value ^ (value >> 27)) * _SECOND) & _MASK
    return value ^ (value >> 31)


def uniform(bits: Bits) -> Floats:
    """Uniform in [0, 1)."""
    return (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53


def gauss(bits: Bits) -> Floats:
    """Nearly normal, mean 0, variance 1, within ±3.47: the sum of four uniform quarters."""
    mask = np.uint64(_QUARTER)
    total = (bits & mask) + ((bits >> np.uint64(16)) & mask)
    total += ((bits >> np.uint64(32)) & mask) + (bits >> np.uint64(48))
    return (total.astype(np.float64) - _SUM_MEAN) / _SUM_DEVIATION


def gauss_at(key: int, index: int) -> float:
    """`gauss` for one index."""
    bits = bit_at(key, index)
    total = sum((bits >> shift) & _QUARTER for shift in (0, 16, 32, 48))
    return (total - _SUM_MEAN) / _SUM_DEVIATION


def wave(key: int, at: Integers, length: int) -> Floats:
    """A slow random wave at the times `at`: normal values each `length`, joined by straight lines."""
    knot = at // length
    share = (at - knot * length) / length
    first = int(knot[0])
    values = gauss(bits_at(key, np.arange(first, int(knot[-1]) + 2)))
    knot = knot - first
    return values[knot] * (1 - share) + values[knot + 1] * share
