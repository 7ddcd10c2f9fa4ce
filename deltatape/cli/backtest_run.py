"""`deltatape backtest run`: a strategy over stored candles, of one instrument or several."""

from typing import TYPE_CHECKING, Any

from deltatape import settings
from deltatape.cli import backtest_options as options
from deltatape.cli.runs import market_kind, show_run, stored_candles
from market import MarketType, WrongUse

if TYPE_CHECKING:
    from collections.abc import Mapping

    from backtest.account import Account
    from backtest.stored_feeds import Facts


def run(
    exchange: options.Exchange,
    symbol: options.Symbols,
    timeframe: options.Interval,
    strategy: options.StrategyName,
    start: options.From = None,
    end: options.To = None,
    param: options.Params = None,
    capital: options.Capital = 10_000.0,
    fee_bps: options.TakerFee = None,
    maker_bps: options.OwnMakerFee = None,
    slippage: options.SlippageKind = None,
    slippage_bps: options.SlippageBps = None,
    latency: options.Latency = None,
    seed: options.Seed = 0,
    participation: options.Participation = 0.0,
    market_type: options.OwnMarketKind = None,
    leverage: options.Leverage = 1.0,
    maintenance: options.Maintenance = None,
    funding: options.Funding = True,
    inside: options.Inside = "stored",
    size: options.Size = None,
    stop: options.Stop = None,
    target: options.Target = None,
    trail: options.Trail = None,
    shorts: options.Shorts = None,
    daily_loss: options.DailyLoss = None,
    daily_target: options.DailyTarget = None,
    max_trades: options.MaxTrades = None,
    cooldown: options.Cooldown = None,
    max_open: options.MaxOpen = None,
    as_json: options.AsJson = False,
) -> None:
    """Backtest a strategy over stored candles.

    The run is stored and shown. Orders fill at the next event; what else is taken for granted of the
    market is printed with the result.
    """
    wanted = settings.load()
    from backtest.grid import parameter
    from backtest.run import run_markets
    from backtest.setup import setup
    from backtest.store import Market, running
    from backtest.stored_feeds import LookInside, Wanted, facts_of, market_type_of, read_sources
    from backtest.strategies import find
    from storage.database import connect, require_schema

    symbols = sorted(set(symbol))
    if len(symbols) < len(symbol):
        raise WrongUse("a symbol is given twice: name each once")
    named = {"stop": stop, "target": target, "trail": trail, "shorts": shorts, "daily_loss": daily_loss}
    named |= {"daily_target": daily_target, "most_trades": max_trades, "cooldown": cooldown}
    parameters = options.policy_of(map(parameter, param or []), size, named | {"most_open": max_open})
    if len(symbols) > 1 and not parameters.keys() & {"fraction", "quantity"}:
        # Or the first to enter would leave nothing to the others.
        parameters["fraction"] = 1.0 / len(symbols)
    found = find(strategy, wanted.signals)
    asked = None if market_type is None else market_kind(market_type)
    costs = costs_of(capital, slippage, slippage_bps, latency, seed, participation)
    rates = {"fee_bps": fee_bps, "maker_bps": maker_bps}
    url = wanted.database()
    with connect(url) as connection:
        require_schema(connection)
        facts = facts_of(connection, exchange, symbols)
        kind = market_type_of(facts, asked)
        costs |= leverage_of(kind, leverage, maintenance)
        account, origin = account_with_fees(exchange, kind, rates, costs)
        inputs = Wanted(inside, account.slippage, funding and kind is MarketType.LINEAR)
        chosen = setup(found, parameters, account, sources_of(inputs, facts, origin))
        frames = {each: stored_candles(url, exchange, each, timeframe, start, end) for each in symbols}
        first = frames[symbols[0]]
        if latency == "recorded":
            chosen = with_lags(chosen, url, exchange, symbols[0], first)
        sources = read_sources(url, exchange, frames, inputs, facts)
        market = Market(exchange, symbols[0], tuple(symbols[1:]))
        with running(connection, chosen, first, market, seed, wanted.alerts.routes()) as begun:
            look = LookInside(url, exchange) if inside == "stored" else None
            begun.complete(run_markets(chosen, sources, look, exchange))
        show_run(connection, str(begun.run_id), wanted.home, as_json=as_json)


def costs_of(
    capital: float,
    slippage: str | None,
    slippage_bps: float | None,
    latency: str | None,
    seed: int,
    participation: float,
) -> dict[str, Any]:
    """What the options say of the account but its fees.

    Raises:
        WrongUse: they are written otherwise, or say one thing twice.
    """
    from backtest.costs import RECORDED, latency_of, slippage_of

    costs: dict[str, Any] = {"capital": capital, "seed": seed, "participation": participation}
    said = slippage_of(slippage) if slippage is not None else {}
    if "slippage_bps" in said and slippage_bps is not None:
        raise WrongUse("--slippage fixed:BPS and --slippage-bps say the same: leave one out")
    if slippage_bps is not None:
        costs["slippage_bps"] = slippage_bps
    if latency is not None and latency != RECORDED:
        costs |= latency_of(latency)
    return costs | said


def leverage_of(kind: MarketType, leverage: float, maintenance: float | None) -> dict[str, float]:
    """Leverage and maintenance of a market; on a linear one with leverage half of what it asks at first."""
    if maintenance is None:
        maintenance = 0.5 / leverage if kind is MarketType.LINEAR and leverage > 1 else 0.0
    return {"leverage": leverage, "maintenance": maintenance}


def account_with_fees(
    exchange: str, kind: MarketType, rates: "Mapping[str, float | None]", costs: "Mapping[str, Any]"
) -> "tuple[Account, str]":
    """The account, its fees as given or else the exchange's own, and where they are from.

    Raises:
        WrongUse: nobody knows the exchange's fees, or a value makes no sense.
    """
    from backtest.account import Account
    from backtest.fees import fees_of

    given: dict[str, Any] = {name: value for name, value in rates.items() if value is not None}
    if "fee_bps" in given:
        return Account(**costs, **given, market_type=kind), "as given"
    known = fees_of(exchange, kind)
    whole: dict[str, Any] = {"fee_bps": known.taker_bps, "maker_bps": known.maker_bps} | given
    return Account(**costs, **whole, market_type=kind), known.source + (", maker as given" if given else "")


def sources_of(inputs: Any, facts: "Mapping[str, Facts]", origin: str) -> dict[str, Any]:
    """What the run is fed with, as plain data: a reproduction reads the same again."""
    from dataclasses import asdict

    steps = {
        symbol: {name: value for name, value in asdict(each.terms).items() if value is not None}
        for symbol, each in facts.items()
    }
    return {
        "inside": inputs.inside,
        "funding": inputs.funding,
        "fees": origin,
        "terms": {symbol: terms for symbol, terms in steps.items() if terms},
        "ends": {symbol: each.ends for symbol, each in facts.items() if each.ends is not None},
    }


def with_lags(chosen: Any, url: str, exchange: str, symbol: str, frame: Any) -> Any:
    """The setup with latencies that are drawn from how late the stored trades came."""
    from dataclasses import replace

    from backtest.stored_feeds import recorded_lags

    lags = recorded_lags(url, exchange, symbol, int(frame.timestamp[0]), int(frame.close_time[-1]))
    return replace(chosen, account=replace(chosen.account, lags=lags))
