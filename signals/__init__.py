"""Closed candles and order flow in, explained signals out."""
