"""What a run is worth: from the daily returns of its equity, and from its positions.

Daily returns are simple returns between the ends of UTC days; a year has 365 of them, since crypto never
closes; the risk-free rate is 0; variances have ddof 1. Every result is finite: where there is nothing to
divide by (no variance, no loss, no drawdown) a ratio is 0.
"""

import math
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from backtest.compiled import compiled

Floats = npt.NDArray[np.float64]
Records = npt.NDArray[np.void]

DAYS_A_YEAR = 365
_LARGEST = float(np.finfo(np.float64).max)


class Metrics(NamedTuple):
    """The figures of one run; amounts in quote units, `_pct` in percent, losses below 0.

    Attributes:
        final_capital: equity at the end.
        total_pnl: what it gained on the initial capital.
        total_return_pct: the same in percent.
        annual_return_pct: see `annual_return`.
        volatility_pct: see `volatility`.
        sharpe_ratio, sortino_ratio, calmar_ratio: see the functions of these names.
        max_drawdown: see `drawdown`; a fraction, from daily equity.
        max_drawdown_days: how long that drawdown took, from its peak until it was made good.
        intraday_drawdown: the largest drawdown over candle closes, a fraction.
        total_trades: positions closed; winning_trades and losing_trades those of net profit and loss.
        win_rate: winning among all, 0 … 1.
        profit_factor: net profits over net losses; 0 without a loss.
        expectancy: the mean net profit of a position.
        avg_win, avg_loss, largest_win, largest_loss: net, of a position.
        total_fees: paid.
        exposure: candle closes with an open position, as a fraction of all.
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
    buy_and_hold_pct: float


@compiled()
def finite(value: float) -> float:
    """`value`, an infinite one as the largest number there is, NaN as 0."""
    if value != value:
        return 0.0
    return min(max(value, -_LARGEST), _LARGEST)


@compiled()
def daily_returns(initial: float, daily: Floats) -> Floats:
    """Simple returns from day's end to day's end, the first one from the initial capital.

    Source: Campbell, Lo, MacKinlay, The Econometrics of Financial Markets (1997), 1.4.1. A day that
    begins with nothing left returns 0.
    """
    returns = np.zeros(daily.size)
    before = initial
    for day in range(daily.size):
        if before > 0.0:
            returns[day] = daily[day] / before - 1.0
        before = daily[day]
    return returns


@compiled()
def annual_return(total: float, days: int) -> float:
    """The yearly rate that compounds to `total`: (1 + total)^(365 / days) − 1, as fractions.

    Source: CFA Institute, Global Investment Performance Standards (2020), geometric annualisation. A
    total loss is −1. Over a few days the figure is an extrapolation, not a forecast.
    """
    if days == 0 or total <= -1.0:
        return -1.0 if total <= -1.0 else 0.0
    return finite((1.0 + total) ** (DAYS_A_YEAR / days) - 1.0)


@compiled()
def deviation(returns: Floats) -> float:
    """Standard deviation with ddof 1, exactly 0 where all returns are equal.

    Source: the unbiased sample variance, e.g. Casella, Berger, Statistical Inference (2002), 5.2.
    """
    if returns.size < 2 or returns.max() == returns.min():
        return 0.0
    mean = returns.mean()
    total = 0.0
    for value in returns:
        total += (value - mean) ** 2
    return math.sqrt(total / (returns.size - 1))


@compiled()
def volatility(returns: Floats) -> float:
    """Yearly standard deviation of daily returns, a fraction: that of a day · √365.

    Source: the square-root-of-time rule, e.g. Hull, Options, Futures, and Other Derivatives, 15.4.
    """
    return deviation(returns) * math.sqrt(DAYS_A_YEAR)


@compiled()
def sharpe_ratio(returns: Floats) -> float:
    """Mean over standard deviation of daily returns, · √365.

    Source: W. F. Sharpe, The Sharpe Ratio, Journal of Portfolio Management 21 (1994), risk-free rate 0.
    """
    spread = deviation(returns)
    if spread == 0.0:
        return 0.0
    return finite(returns.mean() / spread * math.sqrt(DAYS_A_YEAR))


@compiled()
def sortino_ratio(returns: Floats) -> float:
    """Mean over downside deviation of daily returns, · √365; the downside counts every day, gains as 0.

    Source: F. A. Sortino, L. N. Price, Performance Measurement in a Downside Risk Framework, Journal of
    Investing 3 (1994), target return 0.
    """
    if returns.size == 0:
        return 0.0
    total = 0.0
    for value in returns:
        total += min(value, 0.0) ** 2
    downside = math.sqrt(total / returns.size)
    if downside == 0.0:
        return 0.0
    return finite(returns.mean() / downside * math.sqrt(DAYS_A_YEAR))


@compiled()
def calmar_ratio(annual: float, largest: float) -> float:
    """Annual return over the largest drawdown, both fractions.

    Source: T. W. Young, Calmar Ratio: A Smoother Tool, Futures 20 (1991), over the whole run.
    """
    return finite(annual / largest) if largest > 0.0 else 0.0


@compiled()
def drawdown(initial: float, daily: Floats) -> tuple[float, int]:
    """The largest fall of daily equity below its earlier peak, and the days it took.

    The fall is a fraction ≥ 0; its days run from the peak to the first day at or above it again, or to
    the end. Source: M. Magdon-Ismail, A. Atiya, Maximum Drawdown, Risk 17 (2004).
    """
    peak, peak_day = initial, -1
    largest, from_day, level = 0.0, -1, initial
    for day in range(daily.size):
        if daily[day] >= peak:
            peak, peak_day = daily[day], day
        elif 1.0 - daily[day] / peak > largest:
            largest = 1.0 - daily[day] / peak
            from_day, level = peak_day, peak
    if largest == 0.0:
        return 0.0, 0
    below = False
    for day in range(from_day + 1, daily.size):
        below = below or daily[day] < level
        if below and daily[day] >= level:
            return largest, day - from_day
    return largest, daily.size - 1 - from_day


@compiled()
def net_profits(fills: Records) -> Floats:
    """What each closed position brought after its fees: the gross of its exit less both fees."""
    profits = np.empty(fills.size // 2)
    count = 0
    entry_fee = 0.0
    for fill in fills:
        if fill.opens:
            entry_fee = fill.fee
        else:
            profits[count] = fill.gross - entry_fee - fill.fee
            count += 1
    return profits[:count]


@compiled()
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


@compiled()
def _mean(values: Floats) -> float:
    return values.mean() if values.size else 0.0


@compiled()
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
    returns = daily_returns(initial, daily)
    final = daily[-1]
    total = final / initial - 1.0
    annual = annual_return(total, daily.size)
    largest, days = drawdown(initial, daily)
    profits = net_profits(fills)
    wins, losses = profits[profits > 0.0], profits[profits < 0.0]
    return Metrics(
        final,
        final - initial,
        finite(100.0 * total),
        finite(100.0 * annual),
        finite(100.0 * volatility(returns)),
        sharpe_ratio(returns),
        sortino_ratio(returns),
        calmar_ratio(annual, largest),
        largest,
        float(days),
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
        finite(100.0 * buy_and_hold),
    )
