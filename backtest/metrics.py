"""What a run is worth: from the daily returns of its equity (`backtest.ratios`), and from its positions.

Every result is finite: where there is nothing to divide by (no variance, no loss, no drawdown) a ratio
is 0.
"""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from backtest.compiled import compiled
from backtest.ratios import (
    annual_return,
    calmar_ratio,
    conditional_value_at_risk,
    daily_returns,
    drawdown,
    finite,
    omega_ratio,
    sharpe_ratio,
    sortino_ratio,
    tail_ratio,
    value_at_risk,
    volatility,
)

Floats = npt.NDArray[np.float64]
Records = npt.NDArray[np.void]


class Profile(NamedTuple):
    """What daily equity alone says, of a run or of holding the market; see `backtest.ratios`.

    Attributes:
        total_return_pct: what was gained on the initial capital, in percent.
        annual_return_pct: see `annual_return`; it is also called CAGR.
        volatility_pct: see `volatility`.
        sharpe_ratio, sortino_ratio, calmar_ratio, omega_ratio, tail_ratio: see the functions.
        value_at_risk_pct, conditional_value_at_risk_pct: of a day, at 5 %; see the functions.
        max_drawdown: see `drawdown`; a fraction, from daily equity.
        max_drawdown_days: how long that drawdown took, from its peak until it was made good.
    """

    total_return_pct: float
    annual_return_pct: float
    volatility_pct: float
    sharpe_ratio: float
    sortino_ratio: float
    calmar_ratio: float
    omega_ratio: float
    tail_ratio: float
    value_at_risk_pct: float
    conditional_value_at_risk_pct: float
    max_drawdown: float
    max_drawdown_days: float


class Metrics(NamedTuple):
    """The figures of one run; amounts in quote units, `_pct` in percent, losses below 0.

    Those of `Profile`, and:

    Attributes:
        final_capital: equity at the end.
        total_pnl: what it gained on the initial capital.
        intraday_drawdown: the largest drawdown over candle closes, a fraction.
        total_trades: positions closed; winning_trades and losing_trades those of net profit and loss.
        win_rate: winning among all, 0 … 1.
        profit_factor: net profits over net losses; 0 without a loss.
        expectancy: the mean net profit of a position.
        avg_win, avg_loss, largest_win, largest_loss: net, of a position.
        total_fees: paid.
        exposure: candle closes with an open position, as a fraction of all.
        turnover: see `turnover`.
        buy_and_hold_pct: from the first open to the last close, without costs.
    """

    final_capital: float
    total_pnl: float
    total_return_pct: float
    annual_return_pct: float
    volatility_pct: float
    sharpe_ratio: float
    sortino_ratio: float
    calmar_ratio: float
    omega_ratio: float
    tail_ratio: float
    value_at_risk_pct: float
    conditional_value_at_risk_pct: float
    max_drawdown: float
    max_drawdown_days: float
    intraday_drawdown: float
    total_trades: int
    winning_trades: int
    losing_trades: int
    win_rate: float
    profit_factor: float
    expectancy: float
    avg_win: float
    avg_loss: float
    largest_win: float
    largest_loss: float
    total_fees: float
    exposure: float
    turnover: float
    buy_and_hold_pct: float


@compiled(allocates=True)
def profile(initial: float, daily: Floats) -> Any:
    """The `Profile` of equity at the end of each UTC day; `initial` is that before the first one."""
    returns = daily_returns(initial, daily)
    total = daily[-1] / initial - 1.0
    annual = annual_return(total, daily.size)
    largest, days = drawdown(initial, daily)
    return Profile(
        finite(100.0 * total),
        finite(100.0 * annual),
        finite(100.0 * volatility(returns)),
        sharpe_ratio(returns),
        sortino_ratio(returns),
        calmar_ratio(annual, largest),
        omega_ratio(returns),
        tail_ratio(returns),
        finite(100.0 * value_at_risk(returns)),
        finite(100.0 * conditional_value_at_risk(returns)),
        largest,
        float(days),
    )


@compiled(allocates=True)
def net_profits(fills: Records) -> Floats:
    """What each position brought, in the order of their ordinals: gross less all fees, and its funding."""
    # There are no more positions than fills: one look at each fill is enough.
    gross, fees, funding = np.zeros(fills.size), np.zeros(fills.size), np.zeros(fills.size)
    positions = 0
    for fill in fills:
        place = fill.position - 1
        positions = max(positions, fill.position)
        gross[place] += fill.gross
        fees[place] += fill.fee
        funding[place] += fill.funding
    return (gross - fees + funding)[:positions]


@compiled(allocates=True)
def turnover(fills: Records, daily: Floats) -> float:
    """How often the equity was turned over: half of what was bought and sold, over mean daily equity.

    In and out once with everything is 1. Source: R. C. Grinold, R. N. Kahn, Active Portfolio Management
    (2000), ch. 16, for the whole run.
    """
    traded = 0.0
    for fill in fills:
        traded += fill.quantity * fill.price
    mean = daily.mean()
    return finite(0.5 * traded / mean) if mean > 0.0 else 0.0


@compiled(allocates=True)
def profit_factor(profits: Floats) -> float:
    """Sum of net profits over the sum of net losses, 0 without a loss.

    Source: J. D. Schwager, Schwager on Futures: Technical Analysis (1996), ch. 21.
    """
    gained, lost = 0.0, 0.0
    for profit in profits:
        if profit > 0.0:
            gained += profit
        else:
            lost -= profit
    return finite(gained / lost) if lost > 0.0 else 0.0


@compiled(allocates=True)
def _mean(values: Floats) -> float:
    return values.mean() if values.size else 0.0


@compiled(allocates=True)
def summarise(
    initial: float,
    daily: Floats,
    fills: Records,
    fees: float,
    intraday: float,
    exposure: float,
    buy_and_hold: float,
) -> Any:
    """All of them at once.

    Args:
        initial: capital.
        daily: equity at the end of each UTC day, the last one the run's.
        fills: records of `FILL`.
        fees: paid in all.
        intraday: largest drawdown over candle closes.
        exposure: fraction of candle closes with a position.
        buy_and_hold: return of the market, a fraction.
    """
    seen = profile(initial, daily)
    profits = net_profits(fills)
    wins, losses = profits[profits > 0.0], profits[profits < 0.0]
    return Metrics(
        daily[-1],
        daily[-1] - initial,
        seen.total_return_pct,
        seen.annual_return_pct,
        seen.volatility_pct,
        seen.sharpe_ratio,
        seen.sortino_ratio,
        seen.calmar_ratio,
        seen.omega_ratio,
        seen.tail_ratio,
        seen.value_at_risk_pct,
        seen.conditional_value_at_risk_pct,
        seen.max_drawdown,
        seen.max_drawdown_days,
        intraday,
        profits.size,
        wins.size,
        losses.size,
        wins.size / profits.size if profits.size else 0.0,
        profit_factor(profits),
        # Expected profit of a trade: R. Vince, Portfolio Management Formulas (1990), ch. 1.
        _mean(profits),
        _mean(wins),
        _mean(losses),
        wins.max() if wins.size else 0.0,
        losses.min() if losses.size else 0.0,
        fees,
        exposure,
        turnover(fills, daily),
        finite(100.0 * buy_and_hold),
    )
