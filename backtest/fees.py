"""What exchanges ask for a trade: the base tier of each, without discounts, as data."""

from __future__ import annotations

from typing import NamedTuple

from market.errors import WrongUse
from market.instrument import MarketType


class Fees(NamedTuple):
    """Basis points of the amount, and where they are from."""

    taker_bps: float
    maker_bps: float
    source: str


SPOT, LINEAR = MarketType.SPOT, MarketType.LINEAR
SCHEDULES = {
    # binance.com/en/fee/schedule: regular users, no discount for BNB. The same in ccxt 4.5.90. 2026-11.
    ("binance", SPOT): (10.0, 10.0),
    # binance.com/en/fee/futureFee: USDⓈ-M, regular users. The same in ccxt 4.5.90. 2026-11.
    ("binanceusdm", LINEAR): (5.0, 2.0),
    # help.coinbase.com/en/exchange/trading-and-funding/exchange-fees: up to 10,000 USD in 30 days; pairs of
    # stablecoins cost less. The same in ccxt 4.5.90. 2026-11.
    ("coinbase", SPOT): (60.0, 40.0),
    # kraken.com/features/fee-schedule: Kraken Pro, from 0 USD in 30 days, since 2024; ccxt 4.5.90 still
    # has the 26 and 16 from before.
    ("kraken", SPOT): (40.0, 25.0),
    ("kraken_v1", SPOT): (40.0, 25.0),
    # bybit.com/en/help-center, "Trading Fee Structure": VIP 0, since 2023; ccxt 4.5.90 has older figures.
    ("bybit", SPOT): (10.0, 10.0),
    ("bybit", LINEAR): (5.5, 2.0),
    # okx.com/fees: regular users, level 1. Of swaps the same in ccxt 4.5.90. 2026-11.
    ("okx", SPOT): (10.0, 8.0),
    ("okx", LINEAR): (5.0, 2.0),
    # htx.com/fee: level 0. The same in ccxt 4.5.90. 2026-11.
    ("htx", SPOT): (20.0, 20.0),
    # Made up, as all of that market is: what binance asks.
    ("simulated", SPOT): (10.0, 10.0),
}
"""Taker's and maker's fee by exchange and market type."""


def is_listed(exchange: str, market_type: MarketType) -> bool:
    """Whether the fees of this exchange's market are among ours."""
    return (exchange, SPOT if market_type is MarketType.MARGIN else market_type) in SCHEDULES


def fees_of(exchange: str, market_type: MarketType) -> Fees:
    """The base tier of an exchange; of one that is not listed here what ccxt says.

    A margin market costs what its spot market does; interest on what is borrowed is not counted.

    Raises:
        WrongUse: nobody knows it.
    """
    kind = SPOT if market_type is MarketType.MARGIN else market_type
    if (exchange, kind) in SCHEDULES:
        return Fees(*SCHEDULES[exchange, kind], f"{exchange} {kind}, base tier")
    known = None if any(name == exchange for name, _ in SCHEDULES) else _of_ccxt(exchange, kind)
    if known is None:
        raise WrongUse(
            f"the fees of {kind} markets on {exchange!r} are not known: say them, --fee-bps and --maker-bps"
            " (fee_bps= and maker_bps= in Python)"
        )
    return known


def _of_ccxt(exchange: str, kind: MarketType) -> Fees | None:
    # Hundreds of exchanges: loaded only where ours are not enough.
    import ccxt

    if exchange not in ccxt.exchanges:
        return None
    fees = getattr(ccxt, exchange)().fees
    names = ("spot", "trading") if kind is SPOT else ("linear", "swap", "future")
    for name in names:
        found = fees.get(name) or {}
        found = found.get("trading", found)
        if found.get("taker") is not None and found.get("maker") is not None:
            taker, maker = (round(1e4 * float(found[side]), 6) for side in ("taker", "maker"))
            return Fees(taker, maker, f"{exchange} {kind}, as ccxt {ccxt.__version__} says")
    return None
