"""`deltatape backtest run`: a strategy over stored candles, of one instrument or several, or recordings."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deltatape import settings
from deltatape.cli import backtest_options as options
from deltatape.cli import output
from deltatape.cli.runs import show_run, stored_candles
from market import MarketType, WrongUse
from market.timeframe import parse_time

if TYPE_CHECKING:
    from backtest.recordings import Recording


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
    recording: options.Recordings = None,
    queue: options.Queue = "none",
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
    """Backtest a strategy over stored candles, or over a recording.

    The run is stored and shown. Orders fill at the next event; what else is taken for granted of the
    market is printed with the result.
    """
    wanted = settings.load()
    from backtest.costs import needs_changes, queue_of
    from backtest.grid import parameter
    from backtest.recordings import check, told
    from backtest.run import run_markets
    from backtest.setup import setup
    from backtest.store import Market, running
    from backtest.stored_feeds import Facts, LookInside, Wanted, facts_of, read_sources
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
    model = queue_of(queue)
    if model != "none" and not recording:
        raise needs_changes()
    url = wanted.database()
    with connect(url) as connection:
        require_schema(connection)
        tapes = read_recordings(recording, exchange, symbols, inside) if recording else []
        facts = facts_of(connection, exchange, symbols)
        facts |= {tape.symbol: Facts(tape.market_type, tape.terms) for tape in tapes}
        account, origin = costs.account(exchange, facts)
        account = replace(account, queue=model)
        look = None
        if tapes:
            check(account)
            chosen = setup(found, parameters, account, told(tapes) | {"fees": origin})
            since, until = (None if text is None else parse_time(text) for text in (start, end))
            sources = [tape.source(timeframe, since, until) for tape in tapes]
        else:
            inputs = Wanted(inside, account.slippage, funding and account.market_type is MarketType.LINEAR)
            chosen = setup(found, parameters, account, sources_of(inputs, facts, origin))
            frames = {each: stored_candles(url, exchange, each, timeframe, start, end) for each in symbols}
            sources = read_sources(url, exchange, frames, inputs, facts)
            look = LookInside(url, exchange) if inside == "stored" else None
        first = sources[0].frame
        if latency == "recorded":
            chosen = with_lags(chosen, url, exchange, symbols[0], first)
        market = Market(exchange, symbols[0], tuple(symbols[1:]))
        with running(connection, chosen, first, market, seed, wanted.alerts.routes()) as begun:
            begun.complete(run_markets(chosen, sources, look, exchange))
        show_run(connection, str(begun.run_id), wanted.home, as_json=as_json)


def read_recordings(
    files: Sequence[Path], exchange: str, symbols: Sequence[str], inside: str
) -> list["Recording"]:
    """What was recorded of the markets that are asked for.

    Raises:
        WrongUse: one is not in the files; or what stands inside candles is said.
    """
    from deltatape.recordings import recording

    if inside != "stored":
        raise WrongUse("in a recording every trade happens: leave --inside out")
    with output.errors.status("reading the recording", spinner="dots") as status:

        def show(count: int) -> None:
            status.update(f"reading the recording: {count:,} messages or rows")

        found = [recording(files, exchange, symbol, show) for symbol in symbols]
    for note in dict.fromkeys(note for each in found for note in each.notes):
        output.say(note)
    return found


def with_lags(chosen: Any, url: str, exchange: str, symbol: str, frame: Any) -> Any:
    """The setup with latencies that are drawn from how late the stored trades came."""
    from backtest.stored_feeds import recorded_lags

    lags = recorded_lags(url, exchange, symbol, int(frame.timestamp[0]), int(frame.close_time[-1]))
    return replace(chosen, account=replace(chosen.account, lags=lags))
