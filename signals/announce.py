"""Which new signals are announced: only those that are fresh and come from a live stream."""
