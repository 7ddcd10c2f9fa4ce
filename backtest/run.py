"""One backtest: candles and a strategy in, a result out. Nothing is stored here."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np

from backtest import provenance, tables
from backtest.account import Account
from backtest.batch import Floats, Record, walk
from backtest.feeds import Source, columns, fingerprint
from backtest.files import write
from backtest.labels import annual, assumed, label
from backtest.metrics import Metrics, Profile, summarise
from backtest.periods import day_columns, hole_spans, month_columns
from backtest.policies import Policy, follow_signals
from backtest.portfolio import Inside, figures_of, held_of, run_sources
from backtest.ratios import daily_returns
from backtest.reasons import profit_by_reason
from backtest.state import REASONS, SOURCES
from backtest.strategies import Number, Strategy, find
from market.errors import WrongUse
from market.instrument import MarketType
from market.timeframe import Timeframe, format_time

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import polars as pl

    from backtest.own_policies import OwnPolicy
    from signals.frame import CandleFrame

_POLICY_KINDS = {name: type(value) for name, value in asdict(Policy()).items()}


@dataclass(frozen=True, slots=True)
class Setup:
    """Everything but the candles that decides a run.

    Attributes:
        strategy: gives the signals.
        values: every parameter of the strategy.
        policy: turns signals into orders.
        account: what trades.
        sources: what beside the candles of one instrument the run is fed with, and where its costs are from,
            as plain data; empty where that is nothing.
        own: the policy that takes the place of the shipped one, if any.
    """

    strategy: Strategy
    values: Mapping[str, Number]
    policy: Policy
    account: Account
    sources: Mapping[str, Any] = field(default_factory=dict)
    own: OwnPolicy | None = None

    def config(self) -> dict[str, Any]:
        """It as plain data, as stored beside a run's results."""
        account = asdict(self.account)
        account["market_type"] = str(self.account.market_type)
        account["lags"] = list(self.account.lags)
        defaults = self.strategy.defaults
        return {
            "parameters": dict(self.values),
            "changed": {name: value for name, value in self.values.items() if value != defaults[name]},
            "policy": asdict(self.policy),
            "account": account,
            **({"sources": dict(self.sources)} if self.sources else {}),
        }

    @property
    def label(self) -> str:
        """Strategy, parameters and what of the policy is set, in one line."""
        return f"{self.strategy.name} {label(self.config())}".strip()


def setup(
    strategy: str | Strategy,
    parameters: Mapping[str, Number] | None = None,
    account: Account | None = None,
    sources: Mapping[str, Any] | None = None,
) -> Setup:
    """A setup from parameters of the strategy and of the policy (fraction, stop, target, …) together.

    Raises:
        WrongUse: an unknown strategy or parameter, a value that makes no sense, shorts on a spot market.
    """
    strategy = find(strategy) if isinstance(strategy, str) else strategy
    account = account or Account()
    given: dict[str, Any] = {**strategy.policy, **(parameters or {})}
    protection = {name: given.pop(name) for name in list(given) if name in _POLICY_KINDS}
    policy = Policy(**{name: _POLICY_KINDS[name](value) for name, value in protection.items()})
    if policy.shorts and account.market_type is MarketType.SPOT:
        raise WrongUse("a spot market has no shorts: use the market type margin or linear, or shorts=0")
    return Setup(strategy, strategy.parameters(given), policy, account, sources or {})


class Picture(bytes):
    """A PNG file's bytes, which a notebook shows."""

    def _repr_png_(self) -> bytes:
        return bytes(self)


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Result:
    """A finished run; prints as a table.

    Attributes:
        setup: what ran.
        frame: the candles it ran on.
        metrics: the figures.
        record: fills and curve as the kernel wrote them.
        exchange, symbol: of the candles, empty where they come from elsewhere than the tape.
        seconds: that the run took.
        sources: every instrument with what it was fed with, where that is more than the candles of one; then
            `frame` and `symbol` are those of the first.
    """

    setup: Setup
    frame: CandleFrame = field(repr=False)
    metrics: Metrics
    record: Record = field(repr=False)
    exchange: str = ""
    symbol: str = ""
    seconds: float = 0.0
    sources: tuple[Source, ...] = field(default=(), repr=False)

    @property
    def markets(self) -> tuple[Source, ...]:
        """Every instrument."""
        return self.sources or (Source(self.symbol, self.frame),)

    @property
    def symbols(self) -> list[str]:
        """Their names, in the order of their numbers."""
        return [source.symbol for source in self.markets]

    @property
    def span(self) -> tuple[int, int]:
        """From the first candle's open to the last one's close, microseconds UTC."""
        frames = [source.frame for source in self.markets]
        return min(int(f.timestamp[0]) for f in frames), max(int(f.close_time[-1]) for f in frames)

    @property
    def fills(self) -> pl.DataFrame:
        """One row per fill; see `backtest.tables.fill_columns`."""
        return dataframe(tables.fill_columns(self.record, self.symbols))

    @property
    def positions(self) -> pl.DataFrame:
        """One row per position; see `backtest.tables.position_columns`."""
        return dataframe(tables.position_columns(self.record, self.symbols))

    @property
    def equity(self) -> pl.DataFrame:
        """A row per point of the equity curve; see `backtest.tables.equity_columns`."""
        return dataframe(tables.equity_columns(self.record, self.setup.account.capital))

    @property
    def days(self) -> pl.DataFrame:
        """A row per UTC day; see `backtest.periods.day_columns`."""
        return dataframe(self.day_columns())

    @property
    def months(self) -> pl.DataFrame:
        """A row per month; see `backtest.periods.month_columns`."""
        return dataframe(month_columns(self.day_columns()))

    @property
    def reasons(self) -> pl.DataFrame:
        """Profit by the reason of entry and exit; see `backtest.reasons.profit_by_reason`."""
        return dataframe(self.reason_columns())

    @property
    def held(self) -> Profile:
        """The same figures of buying at the first open, of each an equal part, and holding, without costs."""
        return held_of(self.markets)

    @property
    def returns(self) -> Floats:
        """Daily UTC simple returns, the first one from the initial capital."""
        return daily_returns(self.setup.account.capital, self.record.daily)

    def day_columns(self) -> tables.Columns:
        """As `days`, in arrays."""
        first = min((source.frame for source in self.markets), key=lambda frame: int(frame.timestamp[0]))
        return day_columns(first, self.record, self.setup.account.capital)

    def reason_columns(self) -> tables.Columns:
        """As `reasons`, in arrays."""
        return profit_by_reason(self.setup, [source.frame for source in self.markets], self.record)

    def counts(self, by: str) -> dict[str, int]:
        """How many fills had each `reason`, or each `source`."""
        names = {"reason": REASONS, "source": SOURCES}[by]
        codes, counts = np.unique(self.record.fills[by], return_counts=True)
        return {names[code]: int(count) for code, count in zip(codes, counts, strict=True)}

    def plot(self, path: Path | str | None = None) -> Picture:
        """Draw the equity curve and its drawdown: a picture, also written to a PNG file where one is named.

        Raises:
            WrongUse: the file cannot be written.
        """
        from backtest.charts import equity_png

        columns = tables.equity_columns(self.record, self.setup.account.capital)
        picture = Picture(equity_png(self.title, columns["timestamp"], columns["equity"]))
        if path is not None:
            write(path, picture)
        return picture

    def report(self, path: Path | str = "backtest.html") -> Path:
        """Write the report, one HTML file that opens offline, and give its path.

        Raises:
            WrongUse: the file cannot be written.
        """
        from backtest.report import html, of_result

        return write(path, html(of_result(self)).encode())

    def export(self, folder: Path | str, format: str = "parquet") -> list[Path]:  # noqa: A002 - as people say
        """Write fills, positions, equity, days and months as files; see `backtest.export`."""
        from backtest.export import export_result

        return export_result(self, Path(folder), format)

    def origin(self) -> list[tuple[str, str]]:
        """What the run rests on, for people: name and value."""
        config = self.setup.config()
        return [
            ("period", _period(*self.span)),
            *self.inputs(),
            ("account", f"{self.setup.account.market_type}, {self.setup.account.capital:,.2f} at the start"),
            *assumed(config),
            ("parameters", label({**config, "changed": self.setup.values}) or "none"),
            ("rejected orders", f"{self.record.rejected:,}"),
            ("data", f"SHA-256 {fingerprint(self.markets)}"),
            ("fills and equity", f"SHA-256 {provenance.fills_hash(self.record)}"),
            ("code", provenance.code_version()),
            ("machine", provenance.machine()),
        ]

    def inputs(self) -> list[tuple[str, str]]:
        """How much the run was fed with, of each instrument."""
        several = len(self.markets) > 1
        return [
            (name, f"{source.symbol + ': ' if several else ''}{text}")
            for source in self.markets
            for name, text in (("candles", _candles(source)), *_beside(source))
        ]

    @property
    def title(self) -> str:
        """What ran over what, in one line."""
        market = f"{self.exchange} {' '.join(self.symbols)}".strip()
        return " · ".join(part for part in (self.setup.label, market, str(self.frame.timeframe)) if part)

    def __repr__(self) -> str:
        return str(self)

    def __str__(self) -> str:
        rows = describe(self)
        width = max(len(name) for name, _ in rows)
        return "\n".join([self.title, *(f"  {name:<{width}}  {value}" for name, value in rows)])


def run(
    frame: CandleFrame | pl.DataFrame,
    strategy: str | Strategy,
    parameters: Mapping[str, Number] | None = None,
    *,
    account: Account | None = None,
    timeframe: Timeframe | str | None = None,
    exchange: str = "",
    symbol: str = "",
) -> Result:
    """Backtest a strategy.

    Args:
        frame: closed candles, or a table of them with the columns timestamp, open, high, low, close
            and volume (then `timeframe` says their interval).
        strategy: the name of one that ships, or one of your own.
        parameters: the strategy's, and the policy's: fraction, stop, target, shorts, enter_at, exit_at.
        account: capital and costs.
        timeframe: of a table.
        exchange: where the candles come from, for the titles and the tables.
        symbol: likewise.

    Raises:
        WrongUse: what was asked for makes no sense, or the candles do not.
    """
    begun = perf_counter()
    wanted = setup(strategy, parameters, account)
    candles = checked(frame, timeframe)
    record, metrics = execute(wanted, candles, curve=True)
    return Result(wanted, candles, metrics, record, exchange, symbol, perf_counter() - begun)


def run_markets(
    wanted: Setup, sources: Sequence[Source], inside: Inside | None = None, exchange: str = ""
) -> Result:
    """Run over one instrument or several that share the cash.

    Args:
        wanted: what to run; see `setup`.
        sources: at least one; candles are checked here.
        inside: looks into candles that do not say what came first; see `backtest.portfolio.run_sources`.
        exchange: for the titles and the tables.

    Raises:
        WrongUse: the candles cannot have been, or the instruments cannot trade together.
    """
    begun = perf_counter()
    ordered = sorted(sources, key=lambda source: source.symbol)
    for source in ordered:
        checked(source.frame)
    record, used = run_sources(wanted, ordered, inside)
    metrics = figures_of(wanted, used, record)
    first = used[0]
    return Result(
        wanted,
        first.frame,
        metrics,
        record,
        exchange,
        first.symbol,
        perf_counter() - begun,
        () if len(used) == 1 and first.is_plain else tuple(used),
    )


def execute(wanted: Setup, frame: CandleFrame, *, curve: bool) -> tuple[Record, Metrics]:
    """Signals, kernel and metrics over a checked frame; `curve` keeps the equity's points too."""
    signals = wanted.strategy.signals(frame, wanted.values)
    account = wanted.account
    record = walk(
        account.state(most_open=wanted.policy.most_open),
        wanted.policy.record(),
        follow_signals,
        columns(frame),
        signals,
        curve=curve,
    )
    metrics = summarise(
        account.capital,
        record.daily,
        record.fills,
        record.fees,
        record.drawdown,
        record.held / len(frame),
        frame.close[-1] / frame.open[0] - 1.0,
    )
    return record, metrics


def checked(frame: CandleFrame | pl.DataFrame, timeframe: Timeframe | str | None = None) -> CandleFrame:
    """The candles as a frame, refused where no market can have had them.

    Raises:
        WrongUse: there is none, or a price is not above 0, or outside its candle's range.
    """
    from signals.frame import CandleFrame

    if not isinstance(frame, CandleFrame):
        if timeframe is None:
            raise WrongUse("say the timeframe of a table of candles: timeframe='1m'")
        frame = CandleFrame.from_polars(frame, Timeframe.parse(timeframe))
    if not len(frame):
        raise WrongUse("there are no candles to backtest on")
    if wrong := _impossible(frame):
        place, why = wrong
        when = format_time(int(frame.timestamp[place]))
        raise WrongUse(f"the candle of {when} has impossible prices: {why}")
    return frame


def _impossible(frame: CandleFrame) -> tuple[int, str] | None:
    """The first candle that no market can have had, and why."""
    low, high = frame.low, frame.high
    inside = (np.minimum(frame.open, frame.close) >= low) & (np.maximum(frame.open, frame.close) <= high)
    prices = {name: frame.column(name) for name in ("open", "high", "low", "close")}
    if ((low > 0) & inside & (high < np.inf)).all():
        return None
    # Only now does it matter which, and why.
    faults = [
        *((f"{name} is not a number", np.isnan(values)) for name, values in prices.items()),
        *((f"{name} is not above 0", ~(values > 0)) for name, values in prices.items()),
        *((f"{name} is infinite", np.isinf(values)) for name, values in prices.items()),
        ("high lies below low", high < low),
        ("open or close lies outside of low and high", ~inside),
    ]
    place, _, why = min(
        (int(np.argmax(where)), i, why) for i, (why, where) in enumerate(faults) if where.any()
    )
    return place, why


def describe(result: Result) -> list[tuple[str, str]]:
    """The figures of a run for people: name and value, with units."""
    m, account, held = result.metrics, result.setup.account, result.held
    return [
        ("period", _period(*result.span)),
        *result.inputs(),
        *assumed(result.setup.config()),
        ("capital", f"{account.capital:,.2f} → {m.final_capital:,.2f}"),
        ("return", f"{m.total_return_pct:+.2f} % (buy and hold {m.buy_and_hold_pct:+.2f} %)"),
        ("annual return", annual(m.annual_return_pct, m.volatility_pct, result.record.daily.size)),
        ("Sharpe, Sortino, Calmar", _ratios(m.sharpe_ratio, m.sortino_ratio, m.calmar_ratio)),
        ("  of holding the market", _ratios(held.sharpe_ratio, held.sortino_ratio, held.calmar_ratio)),
        ("Omega, tail ratio", _ratios(m.omega_ratio, m.tail_ratio)),
        ("worst day in 20", f"{m.value_at_risk_pct:+.2f} % (mean {m.conditional_value_at_risk_pct:+.2f} %)"),
        ("max drawdown", f"{m.max_drawdown:.2%} over {m.max_drawdown_days:g} days"),
        ("  of holding the market", f"{held.max_drawdown:.2%} over {held.max_drawdown_days:g} days"),
        ("  inside the day", f"{m.intraday_drawdown:.2%}"),
        ("positions", f"{m.total_trades:,} ({m.winning_trades:,} won, {m.win_rate:.1%})"),
        ("profit factor", f"{m.profit_factor:.3f} (expectancy {m.expectancy:+,.4g})"),
        ("average win, loss", f"{m.avg_win:+,.4g}, {m.avg_loss:+,.4g}"),
        ("largest win, loss", f"{m.largest_win:+,.4g}, {m.largest_loss:+,.4g}"),
        ("exposure, turnover", f"{m.exposure:.1%}, {m.turnover:,.1f} times the equity"),
        ("fees paid", f"{m.total_fees:,.2f}"),
        *([("funding", f"{result.record.funding:+,.2f}")] if result.record.funding else []),
        ("fills by source", _named(result.counts("source"))),
        ("fills by reason", _named(result.counts("reason"))),
        ("rejected orders", f"{result.record.rejected:,}"),
    ]


def _period(begin: int, end: int) -> str:
    return f"{format_time(begin)} … {format_time(end)}"


def _candles(source: Source) -> str:
    frame = source.frame
    return f"{len(frame):,} of {frame.timeframe} ({len(hole_spans(frame)):,} holes)"


def _beside(source: Source) -> list[tuple[str, str]]:
    return [(name, f"{count:,}") for name, count in source.counts().items()]


def _ratios(*ratios: float) -> str:
    return ", ".join(f"{ratio:.3f}" for ratio in ratios)


def _named(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in counts.items()) or "none"


def dataframe(columns: tables.Columns) -> pl.DataFrame:
    """Columns as a table, their times as such."""
    import polars as pl

    times = [name for name in columns if name.endswith("timestamp")]
    return pl.DataFrame(columns).with_columns(
        pl.col(times).cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
    )
