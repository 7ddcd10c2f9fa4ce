"""The parts of `deltatape up`, which meet in the database alone."""

from enum import StrEnum


class Part(StrEnum):
    """What a daemon may do; each can run in a process of its own."""

    COLLECTOR = "collector"
    SIGNALS = "signals"
    ALERTS = "alerts"
    SWEEPS = "sweeps"
    TELEGRAM = "telegram"
    UPKEEP = "upkeep"
