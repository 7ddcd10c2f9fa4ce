"""Fills, positions and the equity curve as columns, named as in the database."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from backtest.state import LIQUIDITY, ORDER_KINDS, REASONS, SOURCES

if TYPE_CHECKING:
    from backtest.batch import Record

Columns = dict[str, npt.NDArray[Any]]

_SIDES = np.array(["sell", "", "buy"])


def fill_columns(record: Record) -> Columns:
    """One row per fill, in order; `position` is the ordinal of its position, from 1."""
    fills = record.fills
    return {
        "timestamp": fills["timestamp"],
        "position": fills["position"],
        "side": _SIDES[fills["side"] + 1],
        "price": fills["price"],
        "quantity": fills["quantity"],
        "fee": fills["fee"],
        "liquidity": np.array(LIQUIDITY)[fills["liquidity"]],
        "order_type": np.array(ORDER_KINDS)[fills["kind"]],
        "reason": np.array(REASONS)[fills["reason"]],
        "source": np.array(SOURCES)[fills["source"]],
    }


def position_columns(record: Record) -> Columns:
    """One row per position, in order: its entry and exit, what it brought and cost.

    pnl is net of fees and pnl_pct its share of the amount at entry; max_favourable (≥ 0) and
    max_adverse (≤ 0) are the best and worst profits before fees at prices seen while it was surely open.
    """
    entry = record.fills[record.fills["opens"] == 1]
    exit_ = record.fills[record.fills["opens"] == 0]
    side, quantity = entry["side"], entry["quantity"]
    signed = side * quantity
    at_high = signed * (exit_["high"] - entry["price"])
    at_low = signed * (exit_["low"] - entry["price"])
    fees = entry["fee"] + exit_["fee"]
    pnl = exit_["gross"] - entry["fee"] - exit_["fee"]
    return {
        "side": np.where(side > 0, "long", "short"),
        "entry_timestamp": entry["timestamp"],
        "entry_price": entry["price"],
        "quantity": quantity,
        "stop_loss": np.where(exit_["stop"] > 0, exit_["stop"], np.nan),
        "take_profit": np.where(exit_["target"] > 0, exit_["target"], np.nan),
        "exit_timestamp": exit_["timestamp"],
        "exit_price": exit_["price"],
        "exit_reason": np.array(REASONS)[exit_["reason"]],
        "fees": fees,
        "gross_pnl": exit_["gross"],
        "pnl": pnl,
        "pnl_pct": 100.0 * pnl / (quantity * entry["price"]),
        "max_favourable": np.maximum(at_high, at_low),
        "max_adverse": np.minimum(at_high, at_low),
    }


def equity_columns(record: Record, initial: float) -> Columns:
    """A point at each candle close and each fill; drawdown is the fraction below the highest before."""
    equity = record.cash + record.value
    peak = np.maximum(np.maximum.accumulate(equity), initial)
    return {
        "timestamp": record.timestamp,
        "equity": equity,
        "cash": record.cash,
        "position_value": record.value,
        "drawdown": 1.0 - equity / peak,
    }
