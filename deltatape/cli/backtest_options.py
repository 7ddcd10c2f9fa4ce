"""What can be said of a run on the command line, and what it makes of the account and the policy."""

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer

from deltatape.cli.runs import by_name
from market import WrongUse

Exchange = Annotated[str, typer.Option(help="The exchange's id, such as binance.")]
Symbol = Annotated[str, typer.Option(help="The symbol, such as BTC/USDT.")]
Symbols = Annotated[
    list[str],
    typer.Option("--symbol", help="The symbol, such as BTC/USDT; again for more that share the cash."),
]
Interval = Annotated[str, typer.Option(help="1m 5m 15m 1h 4h or 1d.")]
StrategyName = Annotated[str, typer.Option(help="ema_cross, rsi_reversal, composite, …")]
From = Annotated[str | None, typer.Option("--from", help="First open time, ISO 8601; all there is.")]
To = Annotated[str | None, typer.Option("--to", help="Open times before this; all there is.")]
Params = Annotated[
    list[str] | None,
    typer.Option("--param", help="name=value of the strategy, or fraction, stop, target, shorts; again."),
]
Capital = Annotated[float, typer.Option(help="In quote units.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]

_COSTS, _MARKET, _POLICY = "Costs", "Market", "Policy"
FeeBps = Annotated[
    float | None,
    typer.Option("--fee-bps", help="Taker's, basis points; else the exchange's own.", rich_help_panel=_COSTS),
]
MakerBps = Annotated[
    float | None,
    typer.Option("--maker-bps", help="Maker's; else --fee-bps or the exchange's.", rich_help_panel=_COSTS),
]
SlippageBps = Annotated[
    float | None,
    typer.Option(
        help="Basis points where slippage is fixed, or no book is known; 1.", rich_help_panel=_COSTS
    ),
]
SlippageKind = Annotated[
    str | None,
    typer.Option(
        "--slippage",
        help="fixed:BPS, spread (half of the stored one) or walk (the stored book).",
        rich_help_panel=_COSTS,
    ),
]
Latency = Annotated[
    str | None,
    typer.Option(
        help="Milliseconds: 50, feed=20,order=50,response=20, or recorded (drawn from the stored trades').",
        rich_help_panel=_COSTS,
    ),
]
Seed = Annotated[int, typer.Option(min=0, help="Of what is drawn.", rich_help_panel=_COSTS)]
Participation = Annotated[
    float,
    typer.Option(help="Of a candle's or trade's volume at most this share; 0: all.", rich_help_panel=_COSTS),
]
MarketKind = Annotated[
    str | None,
    typer.Option(
        "--market-type",
        help="spot (long only), margin (shorts) or linear; else what the instrument is.",
        rich_help_panel=_MARKET,
    ),
]
Leverage = Annotated[float, typer.Option(help="Of a linear market.", rich_help_panel=_MARKET)]
Maintenance = Annotated[
    float | None,
    typer.Option(
        help="Equity over position at which it is liquidated; half of 1 / leverage.", rich_help_panel=_MARKET
    ),
]
Funding = Annotated[
    bool, typer.Option(help="Pay stored funding rates on a linear market.", rich_help_panel=_MARKET)
]
Inside = Annotated[
    str,
    typer.Option(
        help="What decides inside a candle: stored (trades, else minutes, where it matters), trades (every"
        " stored trade happens), finer (minutes) or candles (the worse).",
        rich_help_panel=_MARKET,
    ),
]
Recordings = Annotated[
    list[Path] | None,
    typer.Option(
        "--recording",
        help="Run over this recording, or file of trades or book changes (Tardis' incremental_book_L2),"
        " instead of the tape: all of them happen; again for more files.",
        rich_help_panel=_MARKET,
    ),
]
Queue = Annotated[
    str,
    typer.Option(
        help="A limit order's place in the queue of its price, on a recording: none (it fills on"
        " trade-through), pessimistic (others cancel behind it) or pro-rata (everywhere alike).",
        rich_help_panel=_MARKET,
    ),
]
Size = Annotated[
    str | None,
    typer.Option(
        help="Of a position: percent:50 of the equity, fixed:0.1 base units, or volatility:0.4 a year.",
        rich_help_panel=_POLICY,
    ),
]
Stop = Annotated[
    float | None, typer.Option(help="Stop-loss, a fraction of the price: 0.02.", rich_help_panel=_POLICY)
]
Target = Annotated[float | None, typer.Option(help="Take-profit, likewise.", rich_help_panel=_POLICY)]
Trail = Annotated[float | None, typer.Option(help="Trailing stop, likewise.", rich_help_panel=_POLICY)]
Shorts = Annotated[bool | None, typer.Option("--shorts", help="Sales enter short.", rich_help_panel=_POLICY)]
DailyLoss = Annotated[
    float | None,
    typer.Option(help="A day's loss, a fraction, that closes everything.", rich_help_panel=_POLICY),
]
DailyTarget = Annotated[float | None, typer.Option(help="A day's profit, likewise.", rich_help_panel=_POLICY)]
MaxTrades = Annotated[int | None, typer.Option(help="Entries a day at most.", rich_help_panel=_POLICY)]
Cooldown = Annotated[
    float | None, typer.Option(help="Seconds from an exit to the next entry.", rich_help_panel=_POLICY)
]
MaxOpen = Annotated[int | None, typer.Option(help="Positions at once at most.", rich_help_panel=_POLICY)]

_SIZES = {"percent": "fraction", "fixed": "quantity", "volatility": "volatility"}


def policy_of(given: Iterable[tuple[str, Any]], size: str | None, named: dict[str, Any]) -> dict[str, Any]:
    """Parameters of --param, and of the options that have names of their own, together.

    Raises:
        WrongUse: one is said twice, or the size is written otherwise.
    """
    found = by_name("--param", given)
    options: dict[str, Any] = {name: value for name, value in named.items() if value is not None}
    if size is not None:
        options |= _size_of(size)
    if both := found.keys() & options.keys():
        raise WrongUse(f"{min(both)} is given in --param and by its own option: leave one out")
    return found | options


def _size_of(text: str) -> dict[str, float]:
    kind, _, value = text.partition(":")
    try:
        number = float(value)
        name = _SIZES[kind]
    except (KeyError, ValueError):
        raise WrongUse(
            f"a size is percent:50 (of the equity), fixed:0.1 (base units) or volatility:0.4, not {text!r}"
        ) from None
    return {name: number / 100 if kind == "percent" else number}
