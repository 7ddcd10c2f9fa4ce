"""What a run gives: tables, figures, pictures, and how it prints."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from backtest import provenance, tables
from backtest.feeds import Source, fingerprint
from backtest.files import write
from backtest.labels import annual, assumed, label
from backtest.periods import day_columns, hole_spans, month_columns
from backtest.portfolio import held_of
from backtest.ratios import daily_returns
from backtest.reasons import profit_by_reason
from market.timeframe import format_time

if TYPE_CHECKING:
    from collections.abc import Mapping

    import polars as pl

    from backtest.batch import Floats, Record
    from backtest.metrics import Metrics, Profile
    from backtest.setup import Setup
    from signals.frame import CandleFrame


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
        return tables.counted(self.record, by)

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
