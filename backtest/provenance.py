"""What a run rests on: its data, its code, its machine; and the hash of what came out."""

from __future__ import annotations

import platform
from functools import cache
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

import numba
import numpy as np
from numba.core.registry import cpu_target

from backtest.compiled import source_hash
from backtest.state import FILL

if TYPE_CHECKING:
    from backtest.batch import Record
    from signals.frame import CandleFrame


def data_fingerprint(frame: CandleFrame) -> str:
    """SHA-256 of the candles that a strategy can see: interval, times and every float column."""
    from signals.frame import COLUMNS

    digest = sha256(str(frame.timeframe).encode())
    digest.update(frame.timestamp.tobytes())
    for name in COLUMNS:
        digest.update(frame.column(name).tobytes())
    return digest.hexdigest()


def fills_hash(record: Record) -> str:
    """SHA-256 of the raw fills and daily equity, bit by bit: what a reproduction must equal.

    Daily equity rather than the curve, so that a run of a sweep and its reproduction have the same.
    """
    # Column after column, in one piece: every field has eight bytes.
    fields = record.fills.view(np.int64).reshape(-1, len(FILL.names or ()))
    digest = sha256(np.ascontiguousarray(fields.T).ravel().data)
    digest.update(record.daily.data)
    return digest.hexdigest()


@cache
def code_version() -> str:
    """The release and a hash of the engine's source files."""
    try:
        release = version("deltatape")
    except PackageNotFoundError:
        release = "unreleased"
    return f"{release}+{source_hash()[:12]}"


@cache
def machine() -> str:
    """The processor's features and the versions that decide floating-point results."""
    triple, name, features = cpu_target.target_context.codegen().magic_tuple()
    return (
        f"{platform.system()} {triple} {name} {sha256(features.encode()).hexdigest()[:8]},"
        f" Python {platform.python_version()}, numba {numba.__version__}, numpy {np.__version__}"
    )
