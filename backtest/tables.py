"""Fills, positions and the equity curve as columns, named as in the database."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from backtest.state import LIQUIDITY, ORDER_KINDS, REASONS, SOURCES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from backtest.batch import Record

Columns = dict[str, npt.NDArray[Any]]
Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Records = npt.NDArray[np.void]

_SIDES = np.array(["sell", "", "buy"])


def fill_columns(record: Record, symbols: Sequence[str] = ()) -> Columns:
    """One row per fill, in order; `position` is the ordinal of its position, from 1.

    `symbols` names the instruments, in the order of their numbers. `funding` stands on the fill that ends a
    position: what it brought that in all.
    """
    fills = record.fills
    return {
        "timestamp": fills["timestamp"],
        "symbol": _named(fills["instrument"], symbols),
        "position": fills["position"],
        "side": _SIDES[fills["side"] + 1],
        "price": fills["price"],
        "quantity": fills["quantity"],
        "fee": fills["fee"],
        "liquidity": np.array(LIQUIDITY)[fills["liquidity"]],
        "order_type": np.array(ORDER_KINDS)[fills["kind"]],
        "reason": np.array(REASONS)[fills["reason"]],
        "source": np.array(SOURCES)[fills["source"]],
        "funding": fills["funding"],
    }


def counted(record: Record, by: str) -> dict[str, int]:
    """How many fills had each `reason`, or each `source`."""
    names = {"reason": REASONS, "source": SOURCES}[by]
    counts = np.bincount(record.fills[by]).tolist()
    return {names[code]: count for code, count in enumerate(counts) if count}


def position_columns(record: Record, symbols: Sequence[str] = ()) -> Columns:
    """One row per position, in order: its entry and exit, what it brought and cost.

    Where it was entered or left in parts, the price is their mean by quantity, the entry the first and the
    exit the last. pnl is gross_pnl less fees with funding, and pnl_pct its share of the amount at entry;
    stop_loss, trailing_stop and take_profit are where they stood at the exit; max_favourable (≥ 0) and
    max_adverse (≤ 0) are the best and worst profits before fees at prices seen while it was surely open.
    """
    fills = record.fills
    place = fills["position"] - 1
    count = int(place.max()) + 1 if len(place) else 0
    opens = fills["opens"] == 1
    first, last = np.empty(count, dtype=np.int64), np.empty(count, dtype=np.int64)
    # Of several assignments to one place numpy keeps the last.
    first[place[opens][::-1]] = np.flatnonzero(opens)[::-1]
    last[place[~opens]] = np.flatnonzero(~opens)
    entry, exit_ = fills[first], fills[last]
    side = entry["side"]
    quantity, entry_price = _mean_price(fills[opens], place[opens], count)
    _, exit_price = _mean_price(fills[~opens], place[~opens], count)
    signed = side * quantity
    at_high = signed * (exit_["high"] - entry_price)
    at_low = signed * (exit_["low"] - entry_price)
    fees = np.bincount(place, fills["fee"], count)
    gross = np.bincount(place, fills["gross"], count)
    funding = np.bincount(place, fills["funding"], count)
    pnl = gross - fees + funding
    return {
        "symbol": _named(entry["instrument"], symbols),
        "side": np.where(side > 0, "long", "short"),
        "entry_timestamp": entry["timestamp"],
        "entry_price": entry_price,
        "quantity": quantity,
        "stop_loss": _where_set(exit_["stop"]),
        "take_profit": _where_set(exit_["target"]),
        "trailing_stop": _where_set(exit_["trail"]),
        "exit_timestamp": exit_["timestamp"],
        "exit_price": exit_price,
        "exit_reason": np.array(REASONS)[exit_["reason"]],
        "fees": fees,
        "funding": funding,
        "gross_pnl": gross,
        "pnl": pnl,
        "pnl_pct": 100.0 * pnl / (quantity * entry_price),
        "max_favourable": np.maximum(at_high, at_low),
        "max_adverse": np.minimum(at_high, at_low),
    }


def position_instruments(record: Record) -> Integers:
    """The number of each position's instrument, in order."""
    place = record.fills["position"] - 1
    found = np.zeros(int(place.max()) + 1 if len(place) else 0, dtype=np.int64)
    found[place] = record.fills["instrument"]
    return found


def equity_columns(record: Record, initial: float) -> Columns:
    """A point at each candle close and each fill; drawdown is the fraction below the highest before."""
    record = record.with_curve()
    equity = record.cash + record.value
    peak = np.maximum(np.maximum.accumulate(equity), initial)
    return {
        "timestamp": record.timestamp,
        "equity": equity,
        "cash": record.cash,
        "position_value": record.value,
        "drawdown": 1.0 - equity / peak,
    }


def _named(instruments: Integers, symbols: Sequence[str]) -> npt.NDArray[Any]:
    """The names of instruments by their numbers; empty texts where nobody named them."""
    return np.array(symbols)[instruments] if symbols else np.full(len(instruments), "")


def _where_set(price: Floats) -> Floats:
    return np.where(price > 0, price, np.nan)


def _mean_price(fills: Records, place: Integers, count: int) -> tuple[Floats, Floats]:
    """What was traded of each position, and its mean price; that of a single fill is its own, exactly."""
    quantity: Floats = np.bincount(place, fills["quantity"], count).astype(np.float64)
    price = np.bincount(place, fills["quantity"] * fills["price"], count) / quantity
    alone = np.bincount(place, minlength=count)[place] == 1
    price[place[alone]] = fills["price"][alone]
    return quantity, price
