"""The picture that goes with an alert of a market: the candles up to it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from alerts.charts import Mark, candles_png
from market import Timeframe
from storage import read
from storage.outbox import AlertType

if TYPE_CHECKING:
    from alerts.charts import Theme
    from storage.outbox import Alert

CANDLES = 60
_FILLS: dict[str, str] = {
    AlertType.POSITION_OPENED: "opened",
    AlertType.POSITION_CLOSED: "closed",
    AlertType.STOP_LOSS: "stop",
    AlertType.TAKE_PROFIT: "target",
}
"""What the candle of a position's fill is marked with."""


def alert_png(url: str, alert: Alert, theme: Theme) -> bytes | None:
    """The candles up to a signal or a position's fill and what it is, as a PNG's bytes.

    The payload says which: `exchange`, `symbol` and `interval`, and `signal_type` or `side`.

    Returns:
        None for what is about no candles, or where none are stored.

    Raises:
        Unavailable: the database does not answer.
    """
    known = alert.payload
    if not known.get("interval") or (found := _meaning(alert.alert_type, known)) is None:
        return None
    timeframe = Timeframe(known["interval"])
    length = timeframe.microseconds
    # A signal lies on its candle's close, a fill within its candle.
    close = timeframe.open_of(alert.timestamp - 1) + length
    exchange, symbol = known["exchange"], known["symbol"]
    candles = read.candles(url, exchange, symbol, timeframe.value, close - CANDLES * length, close)
    if candles.is_empty():
        return None
    label, is_up = found
    title = f"{symbol} {timeframe.value} on {exchange}"
    return candles_png(title, candles, length, theme=theme, mark=Mark(close, label, is_up))


def _meaning(alert_type: str, known: dict[str, Any]) -> tuple[str, bool | None] | None:
    """The label, and whether something is bought there, or sold."""
    if alert_type == AlertType.SIGNAL_GENERATED:
        kind = str(known.get("signal_type", ""))
        return kind.replace("_", " "), True if "BUY" in kind else False if "SELL" in kind else None
    what, side = _FILLS.get(alert_type), str(known.get("side", ""))
    if what is None or side not in ("long", "short"):
        return None
    # To open a long is to buy, and to close it is to sell.
    return f"{side} {what}", (side == "long") == (alert_type == AlertType.POSITION_OPENED)
