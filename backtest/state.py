"""What the kernel works on: one record of state, one event, in types that Python and machine code share.

Codes are plain integers; the tuple of names beside them says what the tables call each.
Times are int64 microseconds UTC, prices and money float64 in quote units, quantities in base units.
"""

from typing import Any, NamedTuple, TypeAlias

import numba
import numpy as np
from numba import types

OPEN, CLOSE, SIGNAL, END = range(4)

ORDER_KINDS = ("market", "stop", "take_profit")
MARKET, STOP, TAKE_PROFIT = range(3)

REASONS = ("signal", "stop_loss", "take_profit", "liquidation", "end_of_data")
BY_SIGNAL, BY_STOP, BY_TARGET, BY_LIQUIDATION, BY_END = range(5)

SOURCES = ("candle", "candle_pessimistic", "next_open", "close")
CANDLE, CANDLE_PESSIMISTIC, NEXT_OPEN, AT_CLOSE = range(4)

LIQUIDITY = ("taker", "maker")
TAKER, MAKER = range(2)

SIGNAL_TYPES = ("STRONG_SELL", "SELL", "NEUTRAL", "BUY", "STRONG_BUY")
"""The type of a signal event is its place here less two: -2 … 2."""

ERRORS = (
    "",
    "an event came before one that is already past",
    "the two equity identities disagree",
    "too many orders at once",
    "more fills than the signals allow",
)
NO_ERROR, TIME_WENT_BACK, EQUITY_DISAGREES, TOO_MANY_ORDERS, TOO_MANY_FILLS = range(5)

MAX_ORDERS = 8
MAX_FILLS = MAX_ORDERS + 1
"""At one event each order fills at most once, and the end of the data closes what is left."""

ORDER = np.dtype(
    [
        ("kind", np.int64),
        ("side", np.int64),  # +1 buys, -1 sells
        ("reduces", np.int64),  # 1: closes the position, and is cancelled with it
        ("reason", np.int64),
        ("price", np.float64),  # of a stop or target
        ("fraction", np.float64),  # of the equity, of an order that opens
    ],
    align=True,
)

FILL = np.dtype(
    [
        ("timestamp", np.int64),
        ("position", np.int64),  # ordinal of the position it opens or closes, from 1
        ("opens", np.int64),
        ("side", np.int64),
        ("kind", np.int64),  # of the order
        ("reason", np.int64),
        ("source", np.int64),
        ("liquidity", np.int64),
        ("quantity", np.float64),
        ("price", np.float64),
        ("fee", np.float64),
        ("gross", np.float64),  # realised by it, before fees
        # Of a fill that closes: the prices seen while the position was surely open, its own among
        # them, and the protective prices that stood then (0: none).
        ("high", np.float64),
        ("low", np.float64),
        ("stop", np.float64),
        ("target", np.float64),
    ],
    align=True,
)

STATE = np.dtype(
    [
        # What stays.
        ("initial", np.float64),
        ("taker", np.float64),  # rates: 0.001 is 10 basis points
        ("maker", np.float64),
        ("slippage", np.float64),
        ("lot_digits", np.int64),  # the lot is digits / scale; 0: quantities are not rounded
        ("lot_scale", np.int64),
        ("linear", np.int64),
        ("shorts", np.int64),
        # The account.
        ("timestamp", np.int64),
        ("mark", np.float64),  # the last price seen
        ("cash", np.float64),
        ("realised", np.float64),
        ("fees", np.float64),
        # The position: marked at quantity * (mark - basis); basis is its entry price where only the
        # profit is settled (linear), 0 where the whole price is paid (spot, margin).
        ("position", np.int64),
        ("quantity", np.float64),  # below 0: short
        ("entry", np.float64),
        ("basis", np.float64),
        ("high", np.float64),
        ("low", np.float64),
        ("rejected", np.int64),
        ("error", np.int64),
        ("order_count", np.int64),
        ("orders", ORDER, (MAX_ORDERS,)),
        ("fill_count", np.int64),  # of the last event
        ("fills", FILL, (MAX_FILLS,)),
    ],
    align=True,
)


class Event(NamedTuple):
    """One thing that happens.

    Attributes:
        kind: OPEN, CLOSE (its candle's range is known with it), SIGNAL or END.
        timestamp: when it is known.
        price: the open, or the last close.
        high: of a CLOSE; elsewhere the price.
        low: likewise.
        signal: of a SIGNAL: -2 (STRONG_SELL) … 2 (STRONG_BUY); elsewhere 0.
    """

    kind: int
    timestamp: int
    price: float
    high: float
    low: float
    signal: int


State: TypeAlias = Any
"""One record of `STATE`: fields as attributes in machine code, by name in Python."""

STATE_TYPE = numba.from_dtype(STATE)
FILL_TYPE = numba.from_dtype(FILL)
_EVENT_FIELDS = ("int64", "int64", "float64", "float64", "float64", "int64")


def tuple_type(cls: type[tuple[Any, ...]], *fields: Any) -> Any:
    """The numba type of a named tuple with fields of these numba types."""
    return types.BaseTuple.from_types(fields, cls)  # type: ignore[no-untyped-call]


EVENT_TYPE = tuple_type(Event, *(getattr(types, name) for name in _EVENT_FIELDS))
