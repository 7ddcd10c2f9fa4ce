"""`deltatape backtest run`: a strategy over stored candles, of one instrument or several."""

from typing import Any

from deltatape import settings
from deltatape.cli import backtest_options as options
from deltatape.cli.runs import show_run, stored_candles
from market import MarketType, WrongUse


def run(
    exchange: options.Exchange,
    symbol: options.Symbols,
    timeframe: options.Interval,
    strategy: options.StrategyName,
    start: options.From = None,
    end: options.To = None,
    param: options.Params = None,
    capital: options.Capital = 10_000.0,
    fee_bps: options.FeeBps = None,
    maker_bps: options.MakerBps = None,
    slippage: options.SlippageKind = None,
    slippage_bps: options.SlippageBps = None,
    latency: options.Latency = None,
    seed: options.Seed = 0,
    participation: options.Participation = 0.0,
    market_type: options.MarketKind = None,
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
    from backtest.stored_feeds import LookInside, Wanted, facts_of, read_sources
    from backtest.stored_setup import Costs, sources_of
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
    costs = Costs(
        capital,
        fee_bps,
        maker_bps,
        slippage,
        slippage_bps,
        latency,
        seed,
        participation,
        market_type,
        leverage,
        maintenance,
    )
    url = wanted.database()
    with connect(url) as connection:
        require_schema(connection)
        facts = facts_of(connection, exchange, symbols)
        account, origin = costs.account(exchange, facts)
        inputs = Wanted(inside, account.slippage, funding and account.market_type is MarketType.LINEAR)
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


def with_lags(chosen: Any, url: str, exchange: str, symbol: str, frame: Any) -> Any:
    """The setup with latencies that are drawn from how late the stored trades came."""
    from dataclasses import replace

    from backtest.stored_feeds import recorded_lags

    lags = recorded_lags(url, exchange, symbol, int(frame.timestamp[0]), int(frame.close_time[-1]))
    return replace(chosen, account=replace(chosen.account, lags=lags))
