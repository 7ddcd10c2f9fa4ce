"""Which new signals are announced: only those that are fresh and come from a live stream."""
from __future__ import annotations
def announce(connection, written, channels):
    return
