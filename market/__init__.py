"""The vocabulary that every other room speaks: pure, without I/O and without a clock."""

from market.book import BookSnapshot, OrderBook
from market.candle import Candle, CandleBuilder
from market.cvd import Cvd, CvdPoint
from market.decimals import ExactSum
from market.errors import DeltatapeError, Unavailable, WrongUse
from market.funding import FundingRate
from market.instrument import Instrument, MarketType
from market.timeframe import DAY, MICROSECONDS, Timeframe, format_time, parse_time
from market.trade import FAR_AHEAD, Side, Trade

__all__ = [
    "DAY",
    "FAR_AHEAD",
    "MICROSECONDS",
    "BookSnapshot",
    "Candle",
    "CandleBuilder",
    "Cvd",
    "CvdPoint",
    "DeltatapeError",
    "ExactSum",
    "FundingRate",
    "Instrument",
    "MarketType",
    "OrderBook",
    "Side",
    "Timeframe",
    "Trade",
    "Unavailable",
    "WrongUse",
    "format_time",
    "parse_time",
]
