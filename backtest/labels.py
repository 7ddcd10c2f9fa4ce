"""What ran, in one line; free of numba, so that lists load fast."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

_FEW = 4
_POLICY = (
    *("stop", "target", "shorts", "trail", "quantity", "volatility", "daily_loss", "daily_target"),
    *("most_trades", "cooldown", "most_open", "amount", "every", "levels", "step"),
)
_SHORTEST_DAYS = 30


def label(config: Mapping[str, Any]) -> str:
    """The parameters of a setup's `config`, of a strategy with many those that are not the default."""
    parameters, policy = config["parameters"], config["policy"]
    shown = dict(parameters if len(parameters) <= _FEW else config["changed"])
    shown |= {name: policy[name] for name in _POLICY if policy.get(name)}
    if policy["fraction"] != 1:
        shown["fraction"] = policy["fraction"]
    return " ".join(f"{name}={value:g}" for name, value in shown.items())


_INSIDES = {
    "stored": "where a candle does not say what came first its trades do, else its minutes, else the worse",
    "trades": "every stored trade happens; inside a candle without them its minutes, else the worse",
    "finer": "inside a candle its minutes, else the worse",
    "candles": "inside a candle the worse comes first",
    "given": "inside a candle what was given of it, else the worse",
    "ticks": "every trade happens; candles only mark",
    "recording": "every recorded trade happens; candles only mark",
}


_QUEUES = {"pessimistic": "from behind as far as possible", "pro_rata": "from everywhere alike"}


def assumed(config: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What a run took for granted of its market, by name: fills, costs, latency, leverage, steps."""
    account, sources = config["account"], config.get("sources", {})
    maker = account["fee_bps"] if account["maker_bps"] is None else account["maker_bps"]
    origin = f" ({sources['fees']})" if "fees" in sources else ""
    inside = _INSIDES[sources.get("inside", "candles")]
    shown = [
        ("orders fill", f"at the next event; {inside}"),
        ("fees", f"taker {account['fee_bps']:g} bps, maker {maker:g} bps{origin}"),
        ("slippage", _slippage(account)),
    ]
    if latency := _latency(account):
        shown.append(("latency", latency))
    if account.get("leverage", 1) != 1:
        shown.append(("leverage", f"{account['leverage']:g}, maintenance {account['maintenance']:.4g}"))
    if (queue := account.get("queue", "none")) != "none":
        shown.append(("limit orders", f"in the queue of their price, cancellations {_QUEUES[queue]}"))
    if account.get("participation"):
        shown.append(("participation", f"at most {account['participation']:.4g} of the volume"))
    for symbol, terms in sources.get("terms", {}).items():
        steps = ", ".join(f"{name} {value:.10g}" for name, value in terms.items())
        shown.append(("steps", f"{symbol}: {steps}"))
    return shown


def _slippage(account: Mapping[str, Any]) -> str:
    fixed = f"{account['slippage_bps']:g} bps"
    if account.get("slippage") == "spread":
        return f"half the last stored spread, {fixed} before there is one"
    if account.get("slippage") == "walk":
        return f"the levels of the stored book, {fixed} where it is older than {account['book_age']:g} s"
    return fixed


def _latency(account: Mapping[str, Any]) -> str:
    if lags := account.get("lags"):
        middle = sorted(lags)[len(lags) // 2] / 1e3
        return f"drawn from {len(lags):,} recorded lags, median {middle:g} ms, seed {account['seed']}"
    ways = {name: account.get(f"{name}_ms", 0) for name in ("feed", "order", "response")}
    return ", ".join(f"{name} {value:g} ms" for name, value in ways.items() if value)


def annual(percent: float, volatility: float, days: int) -> str:
    """Annual return and volatility in percent; a few days are not blown up to a year."""
    if days < _SHORTEST_DAYS:
        return f"not said of {days} {'day' if days == 1 else 'days'}"
    return f"{percent:+.4g} % (volatility {volatility:.4g} %)"


_FIGURES = (
    ("return", "total_return_pct", "+,.2f", " %"),
    ("annual return", "annual_return_pct", "+,.2f", " %"),
    ("volatility", "volatility_pct", ".2f", " %"),
    ("Sharpe", "sharpe_ratio", ".3f", ""),
    ("Sortino", "sortino_ratio", ".3f", ""),
    ("Calmar", "calmar_ratio", ".3f", ""),
    ("Omega", "omega_ratio", ".3f", ""),
    ("tail ratio", "tail_ratio", ".3f", ""),
    ("worst day in 20", "value_at_risk_pct", "+.2f", " %"),
    ("mean of the worst", "conditional_value_at_risk_pct", "+.2f", " %"),
    ("max drawdown", "max_drawdown", ".2%", ""),
    ("days of it", "max_drawdown_days", ",.0f", ""),
    ("drawdown inside the day", "intraday_drawdown", ".2%", ""),
    ("positions", "total_trades", ",", ""),
    ("won", "win_rate", ".1%", ""),
    ("profit factor", "profit_factor", ".3f", ""),
    ("expectancy", "expectancy", "+,.4g", ""),
    ("average win", "avg_win", "+,.4g", ""),
    ("average loss", "avg_loss", "+,.4g", ""),
    ("largest win", "largest_win", "+,.4g", ""),
    ("largest loss", "largest_loss", "+,.4g", ""),
    ("exposure", "exposure", ".1%", ""),
    ("turnover", "turnover", ",.1f", " ×"),
    ("fees", "total_fees", ",.2f", ""),
    ("final capital", "final_capital", ",.2f", ""),
)
_OF_A_YEAR = ("annual_return_pct", "calmar_ratio")


def figures(run: Mapping[str, Any], held: Mapping[str, Any], days: int) -> list[tuple[str, str, str]]:
    """Every figure by name: that of the run, and that of holding the market where there is one.

    Args:
        run: `backtest.metrics.Metrics` by name; what is missing is left out.
        held: `backtest.metrics.Profile` by name.
        days: that the run took; a few are not blown up to a year.
    """
    rows = []
    for title, name, form, unit in _FIGURES:
        if run.get(name) is None or (name in _OF_A_YEAR and days < _SHORTEST_DAYS):
            continue
        other = "" if held.get(name) is None else _figure(held[name], form, unit)
        rows.append((title, _figure(run[name], form, unit), other))
    return rows


def _figure(value: float | Decimal, form: str, unit: str) -> str:
    # Of money from the database nothing would print as 0e-10.
    known = float(value) if isinstance(value, Decimal) else value
    return f"{known:{form}}{unit}"
