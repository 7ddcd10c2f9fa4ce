"""Funding as exchanges tell it over REST: a rate, which may be below zero, and when it was paid. Sans I/O."""

from collections.abc import Iterable

from collector.exchanges.adapter import MalformedMessage
from collector.exchanges.texts import MAX_SECONDS, Numbers
from market import FundingRate, Instrument, MarketType

_MILLISECOND = 1000


def is_funded(instrument: Instrument) -> bool:
    """Whether it is a perpetual contract: deliveries and spot pay no funding."""
    kinds = (MarketType.LINEAR, MarketType.INVERSE)
    return instrument.market_type in kinds and instrument.expiry_timestamp is None


def page(payments: Iterable[FundingRate], begin: int, end: int) -> list[FundingRate]:
    """Those that were paid in [begin, end), microseconds UTC, in the order of time."""
    return sorted(
        (each for each in payments if begin <= each.timestamp < end), key=lambda each: each.timestamp
    )


def payment(
    instrument: Instrument, numbers: Numbers, milliseconds: int, rate: str, mark_price: str = ""
) -> FundingRate:
    """One payment; `mark_price` is empty where nobody says it.

    Raises:
        MalformedMessage: a text is no number, or the time none.
    """
    if not 0 <= milliseconds <= MAX_SECONDS * 1000:
        raise MalformedMessage(f"no time: {milliseconds}")
    try:
        size = numbers.amount(rate.removeprefix("-"))
        price = numbers.price(mark_price) if mark_price else None
    except ValueError as error:
        raise MalformedMessage(str(error)) from None
    signed = -size if rate.startswith("-") else size
    return FundingRate(instrument.symbol, milliseconds * _MILLISECOND, signed, price)
