"""Ratios of daily returns: each formula with its source.

Daily returns are simple returns between the ends of UTC days; a year has 365 of them, since crypto never
closes; the risk-free rate is 0; variances have ddof 1. Every result is finite: where there is nothing to
divide by (no variance, no loss, no drawdown) a ratio is 0.
"""

import math

import numpy as np
import numpy.typing as npt

from backtest.compiled import compiled

Floats = npt.NDArray[np.float64]

DAYS_A_YEAR = 365
_LARGEST = float(np.finfo(np.float64).max)
_TAIL = 0.05


@compiled(allocates=True)
def finite(value: float) -> float:
    """`value`, an infinite one as the largest number there is, NaN as 0."""
    if value != value:
        return 0.0
    return min(max(value, -_LARGEST), _LARGEST)


@compiled(allocates=True)
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


@compiled(allocates=True)
def annual_return(total: float, days: int) -> float:
    """The yearly rate that compounds to `total`: (1 + total)^(365 / days) − 1, as fractions.

    Source: CFA Institute, Global Investment Performance Standards (2020), geometric annualisation. A
    total loss is −1. Over a few days the figure is an extrapolation, not a forecast.
    """
    if days == 0 or total <= -1.0:
        return -1.0 if total <= -1.0 else 0.0
    return finite((1.0 + total) ** (DAYS_A_YEAR / days) - 1.0)


@compiled(allocates=True)
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


@compiled(allocates=True)
def volatility(returns: Floats) -> float:
    """Yearly standard deviation of daily returns, a fraction: that of a day · √365.

    Source: the square-root-of-time rule, e.g. Hull, Options, Futures, and Other Derivatives, 15.4.
    """
    return deviation(returns) * math.sqrt(DAYS_A_YEAR)


@compiled(allocates=True)
def sharpe_ratio(returns: Floats) -> float:
    """Mean over standard deviation of daily returns, · √365.

    Source: W. F. Sharpe, The Sharpe Ratio, Journal of Portfolio Management 21 (1994), risk-free rate 0.
    """
    spread = deviation(returns)
    if spread == 0.0:
        return 0.0
    return finite(returns.mean() / spread * math.sqrt(DAYS_A_YEAR))


@compiled(allocates=True)
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


@compiled(allocates=True)
def calmar_ratio(annual: float, largest: float) -> float:
    """Annual return over the largest drawdown, both fractions.

    Source: T. W. Young, Calmar Ratio: A Smoother Tool, Futures 20 (1991), over the whole run.
    """
    return finite(annual / largest) if largest > 0.0 else 0.0


@compiled(allocates=True)
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


@compiled(allocates=True)
def omega_ratio(returns: Floats) -> float:
    """What daily returns lie above 0, summed, over what they lie below; 0 without a loss.

    Source: C. Keating, W. F. Shadwick, A Universal Performance Measure, Journal of Performance
    Measurement 6 (2002), threshold 0.
    """
    gained, lost = 0.0, 0.0
    for value in returns:
        gained += max(value, 0.0)
        lost -= min(value, 0.0)
    return finite(gained / lost) if lost > 0.0 else 0.0


@compiled(allocates=True)
def quantile(ordered: Floats, share: float) -> float:
    """The quantile of ascending values, between two of them on the straight line.

    Source: R. J. Hyndman, Y. Fan, Sample Quantiles in Statistical Packages, The American Statistician 50
    (1996), definition 7.
    """
    place = share * (ordered.size - 1)
    below = int(place)
    above = min(below + 1, ordered.size - 1)
    return float(ordered[below] + (place - below) * (ordered[above] - ordered[below]))


@compiled(allocates=True)
def tail_ratio(returns: Floats) -> float:
    """The size of the 95 % quantile of daily returns over that of the 5 % quantile.

    Source: pyfolio's and empyrical's tail_ratio (Quantopian, 2016).
    """
    if returns.size == 0:
        return 0.0
    ordered = np.sort(returns)
    left = abs(quantile(ordered, _TAIL))
    return finite(abs(quantile(ordered, 1.0 - _TAIL)) / left) if left > 0.0 else 0.0


@compiled(allocates=True)
def value_at_risk(returns: Floats) -> float:
    """The 5 % quantile of daily returns: one day in twenty is no better; a loss is below 0.

    Source: P. Jorion, Value at Risk (2006), historical simulation.
    """
    return quantile(np.sort(returns), _TAIL) if returns.size else 0.0


@compiled(allocates=True)
def conditional_value_at_risk(returns: Floats) -> float:
    """The mean of the worst 5 % of daily returns, that at their edge among them.

    Source: R. T. Rockafellar, S. Uryasev, Optimization of Conditional Value-at-Risk, Journal of Risk 2
    (2000), over the sample.
    """
    if returns.size == 0:
        return 0.0
    ordered = np.sort(returns)
    return float(ordered[: int(_TAIL * (returns.size - 1)) + 1].mean())
