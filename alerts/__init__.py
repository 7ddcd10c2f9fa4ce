"""Sends what stands in the outbox, through channels, at least once and as politely as they ask."""
