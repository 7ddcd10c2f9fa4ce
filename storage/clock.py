"""The machine's clock, as the tape counts time."""

import time


def wall_clock() -> int:
    """Microseconds UTC."""
    return time.time_ns() // 1000
