"""What the kernel works on: one record of state, one event, in types that Python and machine code share.

Codes are plain integers; the tuple of names beside them says what the tables call each.
Times are int64 microseconds UTC, prices and money float64 in quote units, quantities in base units.
"""

from typing import Any, NamedTuple, TypeAlias

import numba
import numpy as np
from numba import types

CLOSE, FUNDING, SIGNAL, BOOK, TRADE, DEPTH, OPEN, DELISTED, END = range(9)
"""Kinds of events, in their order at one instant."""

ORDER_KINDS = ("market", "stop", "take_profit", "limit", "trailing_stop")
MARKET, STOP, TAKE_PROFIT, LIMIT, TRAILING = range(5)

REASONS = (
    "signal",
    "stop_loss",
    "take_profit",
    "liquidation",
    "end_of_data",
    "trailing_stop",
    "delisted",
    "policy",
    "daily_limit",
)
(
    BY_SIGNAL,
    BY_STOP,
    BY_TARGET,
    BY_LIQUIDATION,
    BY_END,
    BY_TRAILING,
    BY_DELISTING,
    BY_POLICY,
    BY_DAILY_LIMIT,
) = range(9)

SOURCES = (
    "candle",
    "candle_pessimistic",
    "next_open",
    "close",
    "trade",
    "lower_timeframe",
    "book",
    "queue",
)
(
    CANDLE,
    CANDLE_PESSIMISTIC,
    NEXT_OPEN,
    AT_CLOSE,
    FROM_TRADE,
    LOWER_TIMEFRAME,
    FROM_BOOK,
    FROM_QUEUE,
) = range(8)

LIQUIDITY = ("taker", "maker")
TAKER, MAKER = range(2)

SIZINGS = ("equity", "quantity", "quote")
OF_EQUITY, QUANTITY, QUOTE = range(3)
"""What an order's size counts: a share of the equity, base units, or quote units with the fee in them."""

SLIPPAGES = ("fixed", "spread", "walk")
FIXED, SPREAD, WALK = range(3)

QUEUES = ("none", "pessimistic", "pro_rata")
NO_QUEUE, PESSIMISTIC, PRO_RATA = range(3)
"""Whether a limit order's place in the queue of its price is estimated, and where others cancel there."""

LEVEL, EDGE = 1, 2
"""What a DEPTH says of a side of the book: a level's size, or how deep the side is shown."""

SIGNAL_TYPES = ("STRONG_SELL", "SELL", "NEUTRAL", "BUY", "STRONG_BUY")
"""The type of a signal event is its place here less two: -2 … 2."""

ERRORS = (
    "",
    "an event came before one that is already past",
    "the two equity identities disagree",
    "too many orders at once",
    "more fills than there is room for",
    "entries of the instant before were not settled",
)
(
    NO_ERROR,
    TIME_WENT_BACK,
    EQUITY_DISAGREES,
    TOO_MANY_ORDERS,
    TOO_MANY_FILLS,
    NOT_SETTLED,
) = range(6)

MAX_ORDERS = 128
MAX_INSTRUMENTS = 64
MAX_FILLS = 2 * MAX_ORDERS + MAX_INSTRUMENTS
"""At one event each order fills at most twice (it closes a position and opens the opposite one), and
the end of the data closes what is left."""
MAX_LEVELS = 20
"""Of a side of a book snapshot."""
MAX_LAGS = 1024
FOREVER = np.iinfo(np.int64).max
"""When an order ends that is good until it is cancelled."""

ORDER = np.dtype(
    [
        ("number", np.int64),  # in order of submission, from 1
        ("instrument", np.int64),
        ("kind", np.int64),
        ("side", np.int64),  # +1 buys, -1 sells
        ("reduces", np.int64),  # 1: never more than closes the position, and is cancelled with it
        ("reason", np.int64),
        ("price", np.float64),  # of a limit, stop or target; where a trailing stop stands now
        ("sizing", np.int64),
        ("size", np.float64),  # 0 of one that reduces: all of the position
        ("trail", np.float64),  # a trailing stop's distance, a fraction of the price
        ("on_close", np.int64),  # 1: it follows closes, 0: highs (a purchase's: lows)
        ("since", np.int64),  # when it has reached the exchange
        ("until", np.int64),  # when it ends
        ("at_once", np.int64),  # 1: what the first event does not fill is cancelled
        ("group", np.int64),  # one cancels the others of its number; 0: none
        ("confidence", np.float64),  # higher ones enter first
        # What has become of it.
        ("fresh", np.int64),  # 1: no event has seen it
        ("tried", np.int64),  # the last matching that took it up
        ("triggered", np.int64),  # 1: a stop that is a market order now
        ("begun", np.int64),  # 1: filled in part, `left` to go
        ("left", np.float64),
        ("due", np.int64),  # 1: fills when the entries of this instant are settled
        ("market", np.float64),  # at this price, before slippage
        ("source", np.int64),
        ("liquidity", np.int64),
        ("filled_at", np.int64),
        # Its place in the queue of its price, see `backtest.queue`.
        ("ahead", np.float64),  # what stands before it; below 0: not in line
        ("shown", np.float64),  # the size of its level as the book last said
        ("traded", np.float64),  # at its level since then
        ("given", np.float64),  # what the last trade had for it
    ],
    align=True,
)

FILL = np.dtype(
    [
        ("timestamp", np.int64),
        ("position", np.int64),  # ordinal of the position it opens or closes, from 1
        ("opens", np.int64),  # 1: opens it or adds to it, 0: reduces or closes it
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
        ("trail", np.float64),
        ("target", np.float64),
        ("instrument", np.int64),
        ("order", np.int64),  # its number; 0: nobody's (liquidation, delisting, the end)
        ("held", np.float64),  # the position after it, below 0: short
        ("funding", np.float64),  # of one that closes: what funding brought the position in all
    ],
    align=True,
)

INSTRUMENT = np.dtype(
    [
        # What stays.
        ("taker", np.float64),  # rates: 0.001 is 10 basis points
        ("maker", np.float64),
        ("slippage", np.float64),
        ("lot_digits", np.int64),  # the lot is digits / scale; 0: quantities are not rounded
        ("lot_scale", np.int64),
        ("tick_digits", np.int64),  # likewise of prices
        ("tick_scale", np.int64),
        ("least", np.float64),  # quote units that an order which opens must be worth
        # The position: marked at quantity * (mark - basis); basis is its entry price where only the
        # profit is settled (linear), 0 where the whole price is paid (spot, margin).
        ("mark", np.float64),  # the last price seen
        ("position", np.int64),
        ("quantity", np.float64),  # below 0: short
        ("entry", np.float64),
        ("basis", np.float64),
        ("high", np.float64),
        ("low", np.float64),
        ("funding", np.float64),
        # The market.
        ("available", np.float64),  # what may still be taken of the last candle's or trade's volume
        ("range_low", np.float64),
        ("range_high", np.float64),
        ("entered_inside", np.int64),  # 1: a position opened inside the candle of the last event
        ("is_delisted", np.int64),
        ("book_time", np.int64),
        ("bid", np.float64),  # of the last snapshot, 0 before the first
        ("ask", np.float64),
        # What is left of its levels, the best first; a side is price, size.
        ("bids", np.float64, (2, MAX_LEVELS)),
        ("asks", np.float64, (2, MAX_LEVELS)),
        # Its book as DEPTH events tell it.
        ("is_whole", np.int64),  # 0: not known
        ("changed_at", np.int64),
        ("deepest_bid", np.float64),  # what lies beyond it is not shown
        ("deepest_ask", np.float64),
        ("taken", np.float64),  # of the last trade, by orders in line
        # For the policy's own use.
        ("notes", np.float64, (8,)),
    ],
    align=True,
)

STATE = np.dtype(
    [
        # What stays.
        ("initial", np.float64),
        ("linear", np.int64),
        ("shorts", np.int64),
        ("leverage", np.float64),
        ("maintenance", np.float64),  # of a position's value: with less equity it is liquidated
        ("slippage", np.int64),  # one of SLIPPAGES
        ("queue", np.int64),  # one of QUEUES
        ("book_age", np.int64),  # how old a snapshot may be to be walked
        ("participation", np.float64),  # share of the volume that fills may take; 0: no limit
        ("most_open", np.int64),  # positions at once; 0: no limit
        ("feed", np.int64),  # latencies
        ("order", np.int64),
        ("response", np.int64),
        ("lag_count", np.int64),  # 0: latencies as they stand, else drawn from so many `lags`
        ("lags", np.int64, (MAX_LAGS,)),
        ("random", np.uint64),
        # The account.
        ("timestamp", np.int64),
        ("cash", np.float64),
        ("realised", np.float64),
        ("fees", np.float64),
        ("funding", np.float64),
        ("position", np.int64),  # how many there were
        ("rejected", np.int64),
        ("error", np.int64),
        ("wake_at", np.int64),  # the policy hears of events from then on
        ("due_count", np.int64),
        ("order_number", np.int64),
        ("matching", np.int64),  # how many events were held against orders
        ("order_count", np.int64),
        ("fill_count", np.int64),  # of the last event
        ("instrument_count", np.int64),
        ("orders", ORDER, (MAX_ORDERS,)),
        ("fills", FILL, (MAX_FILLS,)),
        ("instruments", INSTRUMENT, (MAX_INSTRUMENTS,)),
    ],
    align=True,
)


class Event(NamedTuple):
    """One thing that happens to one instrument.

    Attributes:
        kind: CLOSE (its candle's range is known with it), FUNDING, SIGNAL, BOOK, TRADE, DEPTH (a change of
            the order book), OPEN, DELISTED or END (of all instruments).
        instrument: its number.
        timestamp: when it is known.
        start: of a CLOSE: when its candle opened; elsewhere the timestamp.
        price: the open, the last close, the trade's, the book's middle; of FUNDING the mark price, 0
            where it is not known; of a DEPTH the level's, or the deepest one shown.
        high: of a CLOSE; of a BOOK the ask; of a DEPTH the best ask (0: none); elsewhere the price.
        low: of a CLOSE; of a BOOK the bid; of a DEPTH the best bid; elsewhere the price.
        size: volume of an OPEN's candle, of a TRADE, of a CLOSE that has no OPEN; of FUNDING the rate;
            of a SIGNAL its confidence; of a DEPTH what the level holds now.
        signal: of a SIGNAL: -2 (STRONG_SELL) … 2 (STRONG_BUY); of a TRADE: 1 where its taker bought, -1
            where they sold; of a DEPTH: 1 or -1 a level of the bids or asks, 2 or -2 the deepest price that
            the side shows, 0 that the book is whole (size 1) or not known (size 0); elsewhere 0.
        source: CANDLE; LOWER_TIMEFRAME of a finer candle inside one; AT_CLOSE of a CLOSE whose inside
            came before it, in trades or finer candles, so that it only marks.
    """

    kind: int
    instrument: int
    timestamp: int
    start: int
    price: float
    high: float
    low: float
    size: float
    signal: int
    source: int


State: TypeAlias = Any
"""One record of `STATE`: fields as attributes in machine code, by name in Python."""

STATE_TYPE = numba.from_dtype(STATE)
FILL_TYPE = numba.from_dtype(FILL)
_EVENT_FIELDS = ("int64",) * 4 + ("float64",) * 4 + ("int64",) * 2


def tuple_type(cls: type[tuple[Any, ...]], *fields: Any) -> Any:
    """The numba type of a named tuple with fields of these numba types."""
    return types.BaseTuple.from_types(fields, cls)  # type: ignore[no-untyped-call]


EVENT_TYPE = tuple_type(Event, *(getattr(types, name) for name in _EVENT_FIELDS))
