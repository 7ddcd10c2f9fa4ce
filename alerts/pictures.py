"""The picture that goes with a signal: the candles up to it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from alerts.charts import Mark, candles_png
from market import Timeframe
from storage import read

if TYPE_CHECKING:
    from alerts.charts import Theme
    from storage.outbox import Alert

CANDLES = 60


def signal_png(url: str, alert: Alert, theme: Theme) -> bytes | None:
    """The candles up to a signal and what it says, as a PNG's bytes; None for what is no signal.

    Raises:
        Unavailable: the database does not answer.
    """
    known = alert.payload
    if alert.alert_type != "signal_generated" or not known.get("interval"):
        return None
    timeframe = Timeframe(known["interval"])
    length = timeframe.microseconds
    close = alert.timestamp
    candles = read.candles(
        url, known["exchange"], known["symbol"], timeframe.value, close - CANDLES * length, close
    )
    if candles.is_empty():
        return None
    kind = str(known.get("signal_type", ""))
    is_up = True if "BUY" in kind else False if "SELL" in kind else None
    title = f"{known['symbol']} {timeframe.value} on {known['exchange']}"
    return candles_png(title, candles, length, theme=theme, mark=Mark(close, kind.replace("_", " "), is_up))
