"""One thing that was looked at."""

from enum import StrEnum

from msgspec import Struct


class State(StrEnum):
    """How it is: an error is something broken, a warning something to know."""

    OK = "ok"
    WARNING = "warning"
    ERROR = "error"


class Finding(Struct, frozen=True):
    """What was looked at, how it is, and what to do about it (empty where all is well)."""

    check: str
    state: State
    text: str
    fix: str = ""
