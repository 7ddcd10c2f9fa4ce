"""The shipped indicators; importing this registers them."""

from signals.indicators import flow, momentum, trend, volatility

__all__ = ["flow", "momentum", "trend", "volatility"]
