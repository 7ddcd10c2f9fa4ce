"""The door for people: candles of any make, and arrays, a class or a name that say what to trade."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from hashlib import sha256
from inspect import getsource
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from backtest.account import Account
from backtest.batch import Signals
from backtest.costs import latency_of, queue_of, slippage_of
from backtest.feeds import Source, books_of, columns, funding_of, trades_of
from backtest.fees import fees_of, is_listed
from backtest.frames import candles_of, candles_of_trades
from backtest.own_policies import OwnPolicy
from backtest.policies import Policy
from backtest.recordings import Recording, check, told
from backtest.run import run_markets
from backtest.setup import Setup, setup
from backtest.stored_feeds import market_of
from backtest.stored_setup import market_kind
from backtest.strategies import Strategy, find, live
from market.errors import WrongUse
from market.instrument import MarketType
from market.timeframe import Timeframe, format_time

if TYPE_CHECKING:
    from backtest.result import Result
    from backtest.strategies import Number
    from signals.frame import CandleFrame

Flags = npt.NDArray[np.bool_]

_ACCOUNT = tuple(each.name for each in fields(Account))
_FROM_ARRAYS = "entries"


def backtest(
    frame: Any,
    strategy: Any,
    exits: Any = None,
    *,
    timeframe: Timeframe | str | None = None,
    exchange: str = "",
    symbol: str = "",
    trades: Any = None,
    finer: Any = None,
    books: Any = None,
    funding: Any = None,
    **options: Any,
) -> Result:
    """Backtest over candles of any make; nothing is stored, no database is needed.

    A signal at a candle's close fills at the next event: the next candle's open, or the next trade or book
    where these are given.

    Args:
        frame: see `backtest.frames.candles_of`: polars, pandas or numpy. Or such tables by symbol: these
            instruments share the cash. Or a table of trades (timestamp, price, size): every trade happens,
            and the candles of `timeframe` (1m) that they make are what a strategy reads. Or a recording, as
            `dt.recording` gives it, or several by symbol: the same, and every change of the order book
            happens as well.
        strategy: the name of one that ships, one of `backtest.strategies`, a class with `cites`, `score`
            and `reason` as for live signals, a policy of your own (see `backtest.own_policies.policy`), or
            the entries: a truth value for each candle.
        exits: the same for the exits, where `strategy` are entries; where there is none, a position is
            left by `stop`, `target` or the end of the data. With shorts=True an exit enters short too.
        timeframe: of the candles; else the shortest time between two of them.
        exchange: whose candles they are, for titles and stored runs; its fees are the default.
        symbol: likewise, of a single instrument.
        trades: what happened inside the candles, a table, or tables by symbol.
        finer: shorter candles, likewise.
        books: snapshots as `dt.books` gives them, likewise.
        funding: a contract's timestamp, rate and, where known, mark_price, likewise.
        **options: capital and costs (see `backtest.account.Account`; slippage="fixed:2", "spread" or
            "walk", latency="50" or "feed=20,order=50", queue="pessimistic" or "pro-rata" on a recording),
            the policy (see `backtest.policies.Policy`) and the strategy's parameters.

    Raises:
        WrongUse: the candles cannot have been, or what was asked for makes no sense.
    """
    beside = {"trades": trades, "finer": finer, "books": books, "funding": funding}
    given = {name: table for name, table in beside.items() if table is not None}
    tapes = [frame[name] for name in sorted(frame)] if _by_symbol(frame) else [frame]
    if all(isinstance(tape, Recording) for tape in tapes):
        return _over_recordings(tapes, strategy, exits, timeframe, given, options)
    costs = _costs(options, exchange, symbol)
    sources = _sources(frame, symbol, timeframe, given, costs.slippage)
    wanted = _wanted(strategy, exits, options, costs, sources, _told(sources, given))
    return run_markets(wanted, sources, exchange=exchange)


def _over_recordings(
    tapes: Sequence[Recording],
    strategy: Any,
    exits: Any,
    timeframe: Timeframe | str | None,
    given: Mapping[str, Any],
    options: dict[str, Any],
) -> Result:
    if given:
        raise WrongUse(f"a recording has everything in it: leave {', '.join(given)} out")
    first = tapes[0]
    if any((tape.exchange, tape.market_type) != (first.exchange, first.market_type) for tape in tapes):
        raise WrongUse("recordings that share the cash are of one exchange and one kind of market")
    options.setdefault("market_type", first.market_type)
    costs = _costs(options, first.exchange, first.symbol)
    check(costs)
    sources = [tape.source(timeframe) for tape in tapes]
    wanted = _wanted(strategy, exits, options, costs, sources, told(tapes))
    return run_markets(wanted, sources, exchange=first.exchange)


def _wanted(
    strategy: Any,
    exits: Any,
    options: dict[str, Any],
    costs: Account,
    sources: list[Source],
    fed: dict[str, Any],
) -> Setup:
    if len(sources) > 1 and not options.keys() & {"fraction", "quantity"}:
        # Or the first to enter would leave nothing to the others.
        options["fraction"] = 1.0 / len(sources)
    if isinstance(strategy, OwnPolicy):
        return _of_policy(strategy, exits, options, costs, fed)
    return setup(_strategy(strategy, exits, sources), options, costs, fed)


def _of_policy(
    policy: OwnPolicy, exits: Any, options: dict[str, Any], costs: Account, told: dict[str, Any]
) -> Setup:
    if exits is not None:
        raise WrongUse("exits belong to entries: a policy has its own")
    options.pop("fraction", None)
    own = policy(**options)
    return Setup(own.strategy(), own.values, Policy(), costs, told, own)


def _costs(options: dict[str, Any], exchange: str, symbol: str) -> Account:
    """The account of the options, which keep what is not of it."""
    costs = {name: options.pop(name) for name in _ACCOUNT if name in options}
    if "market_type" in costs:
        costs["market_type"] = market_kind(costs["market_type"])
    elif market_of(symbol) is not MarketType.SPOT:
        costs["market_type"] = market_of(symbol)
    if "slippage" in costs:
        costs |= slippage_of(str(costs["slippage"]))
    if "queue" in costs:
        costs["queue"] = queue_of(str(costs["queue"]))
    if (latency := options.pop("latency", None)) is not None:
        costs |= latency_of(str(latency))
    kind = costs.get("market_type", MarketType.SPOT)
    if "fee_bps" not in costs and is_listed(exchange, kind):
        known = fees_of(exchange, kind)
        costs = {"fee_bps": known.taker_bps, "maker_bps": known.maker_bps} | costs
    return Account(**costs)


def _sources(
    frame: Any, symbol: str, timeframe: Timeframe | str | None, given: Mapping[str, Any], slippage: str
) -> list[Source]:
    tables = frame if _by_symbol(frame) else {symbol: frame}
    for what, table in given.items():
        if _by_symbol(table) and (strange := set(table) - set(tables)):
            raise WrongUse(f"{what} are given of {min(strange)}, which has no candles here: say symbol=")
    found = []
    for name in sorted(tables):
        mine = {
            what: table[name] if _by_symbol(table) else table
            for what, table in given.items()
            if not _by_symbol(table) or name in table
        }
        if len(tables) > 1 and any(not _by_symbol(table) for table in given.values()):
            raise WrongUse("of several instruments give trades, finer, books and funding by symbol")
        found.append(_source(name, tables[name], timeframe, mine, slippage))
    return found


def _by_symbol(table: Any) -> bool:
    return isinstance(table, Mapping) and bool(table) and all("/" in str(name) for name in table)


def _source(
    symbol: str, table: Any, timeframe: Timeframe | str | None, mine: Mapping[str, Any], slippage: str
) -> Source:
    names = {str(name).lower() for name in _names(table)}
    is_ticks = "price" in names and "open" not in names
    trades = trades_of(table) if is_ticks else None
    if is_ticks and mine.keys() & {"trades", "finer"}:
        raise WrongUse("a table of trades has nothing finer inside it: leave trades= and finer= out")
    if trades is None and "trades" in mine:
        trades = trades_of(mine["trades"])
    return Source(
        symbol,
        candles_of_trades(trades, timeframe) if is_ticks and trades else candles_of(table, timeframe),
        trades,
        columns(candles_of(mine["finer"])) if "finer" in mine else None,
        books_of(mine["books"], levels=slippage == "walk") if "books" in mine else None,
        funding_of(mine["funding"]) if "funding" in mine else None,
        is_ticks=is_ticks,
    )


def _names(table: Any) -> Any:
    names = getattr(table, "columns", None)
    if names is not None:
        return names
    if isinstance(table, np.ndarray):
        return table.dtype.names or ()
    return table if isinstance(table, Mapping) else ()


def _told(sources: list[Source], given: Mapping[str, Any]) -> dict[str, Any]:
    """What was given beside the candles of one instrument, as plain data."""
    if any(source.is_ticks for source in sources):
        return {"inside": "ticks"}
    inside = "given" if given.keys() & {"trades", "finer"} else "candles"
    return {"inside": inside, "given": sorted(given)} if given else {}


def _strategy(strategy: Any, exits: Any, sources: list[Source]) -> Strategy:
    if isinstance(strategy, str | Strategy | type) or hasattr(strategy, "score"):
        if exits is not None:
            raise WrongUse("exits belong to entries: a strategy has its own")
        if isinstance(strategy, str):
            return find(strategy)
        return strategy if isinstance(strategy, Strategy) else of_class(strategy)
    if len(sources) > 1:
        raise WrongUse("entries as arrays are of one instrument: give a strategy for several")
    candles = sources[0].frame
    count = len(candles)
    entering = _flags("entries", strategy, count)
    leaving = np.zeros(count, dtype=np.bool_) if exits is None else _flags("exits", exits, count)
    both = entering & leaving
    if both.any():
        first = format_time(int(candles.timestamp[int(np.argmax(both))]))
        raise WrongUse(f"{both.sum():,} candles both enter and leave, the first {first}: say which it is")
    return of_arrays(entering, leaving)


def of_arrays(entries: Flags, exits: Flags) -> Strategy:
    """A strategy that buys at the close of each candle of `entries` and sells at that of `exits`."""
    candle = np.flatnonzero(entries | exits)
    signals = Signals(candle, np.where(entries[candle], 1, -1).astype(np.int64))

    def given(_frame: CandleFrame, _values: Mapping[str, Number]) -> Signals:
        return signals

    return Strategy(_FROM_ARRAYS, "Entries and exits as given.", {}, given)


def of_class(strategy: Any) -> Strategy:
    """A class as the live signals know them (see `signals.own`), or an object of one, as a strategy.

    Raises:
        WrongUse: it lacks what such a class has, or cannot be made without arguments.
    """
    from signals.own import own
    from signals.strategies import Strategy as Live
    from signals.strategies import Weighted

    made = strategy if isinstance(strategy, type) else type(strategy)
    try:
        text = getsource(made)
    except (OSError, TypeError):
        # Of a class that was typed in, the name must do.
        text = made.__qualname__
    found = own(made.__name__, strategy, sha256(text.encode()).hexdigest()[:16])
    return live(
        Live(
            found.rule.kind,
            (Weighted(found.rule, 1.0),),
            confirm=found.confirm,
            timeframes=found.timeframes,
            source=found.source,
            policy=found.policy,
        )
    )


def _flags(name: str, given: Any, count: int) -> Flags:
    values = np.asarray(given)
    if values.shape != (count,):
        size = f"{values.size:,} values" if values.ndim == 1 else f"the shape {values.shape}"
        raise WrongUse(f"the {name} have {size}, the candles are {count:,}: one value for each candle")
    if values.dtype == np.bool_:
        return values
    try:
        numbers = values.astype(np.float64)
    except (TypeError, ValueError):
        raise WrongUse(f"the {name} must be true or false, not {values.dtype}") from None
    if not np.isin(numbers, (0.0, 1.0)).all():
        raise WrongUse(f"the {name} must be true or false for each candle, and nothing else (no NaN)")
    return np.asarray(numbers, dtype=np.bool_)
