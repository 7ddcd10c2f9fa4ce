"""The shipped indicators; importing this registers them. TA-Lib's own are loaded when asked for."""

from signals.indicators import average_price, flow, footprint, liquidity, momentum, trend, volatility

__all__ = ["average_price", "flow", "footprint", "liquidity", "momentum", "trend", "volatility"]
