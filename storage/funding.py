"""Writing the funding of perpetual contracts."""

from collections.abc import Iterable

from market import FundingRate
from market.timeframe import from_datetime
from storage.copy import all_or_nothing, upsert_rows
from storage.database import Connection

_KEY = ("exchange", "symbol", "timestamp")


def write_funding(connection: Connection, exchange: str, rates: Iterable[FundingRate]) -> int:
    """Write what was paid; a stored payment that differs is replaced.

    Returns:
        How many rows were written or changed.
    """
    paid = {(rate.symbol, rate.timestamp): rate for rate in rates}
    rows = [(exchange, each.symbol, each.timestamp, each.rate, each.mark_price) for each in paid.values()]
    if not rows:
        return 0
    with all_or_nothing(connection):
        return upsert_rows(
            connection, "funding_rates", (*_KEY, "rate", "mark_price"), rows, _KEY, is_update=True
        )


def last_funding(connection: Connection, exchange: str, symbol: str) -> int | None:
    """When an instrument's newest stored payment was, microseconds UTC; None where there is none."""
    row = connection.execute(
        "SELECT timestamp FROM funding_rates WHERE exchange = %s AND symbol = %s"
        " ORDER BY timestamp DESC LIMIT 1",
        (exchange, symbol),
    ).fetchone()
    return from_datetime(row[0]) if row else None
