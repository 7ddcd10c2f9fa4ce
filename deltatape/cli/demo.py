"""`deltatape demo`, which is `make run`: the whole job, offline, laid out on one screen."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Group
from rich.live import Live
from rich.panel import Panel
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from deltatape import settings
from deltatape.cli import output
from deltatape.cli.stopping import INTERRUPTED, until_stopped
from market import MICROSECONDS, format_time

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import RenderableType

    from collector.collect import Collector
    from deltatape.settings import Settings
    from storage.outbox import Alert

app = typer.Typer()

SHOWN_TABLES = (
    "trades",
    "orderbook_snapshots",
    "candles",
    "cvd_snapshots",
    "signals",
    "alerts",
    "backtest_runs",
)
SHOWN_SIGNALS = 6
REFRESH_SECONDS = 0.5
PLAIN_SECONDS = 5.0
"""Between two lines of progress where there is no terminal."""
_COLOURS = {"STRONG_BUY": "bold green", "BUY": "green", "SELL": "red", "STRONG_SELL": "bold red"}


@app.command(epilog="Example: deltatape demo --live 30")
def demo(
    live: Annotated[float, typer.Option(min=0, help="Seconds at real speed, after catching up.")] = 20.0,
    hours: Annotated[float, typer.Option(min=0.1, max=24, help="How far back a new tape begins.")] = 6.0,
) -> None:
    """Simulate an exchange some hours back and up to now, collect it, signal, alert, sweep; then end.

    A second run goes on with the same tape.
    """
    wanted = settings.load()
    output.say(
        f"database: private server under {wanted.home}" if not wanted.database_url else "database: as set"
    )
    url = wanted.database()
    screen = Screen(wanted, url)
    ended = asyncio.run(until_stopped(screen.run(live, hours)))
    if not ended:
        output.say("stopped; everything that came is stored, and the next run goes on with it")
        raise typer.Exit(INTERRUPTED)
    screen.summary()


class Screen:
    """What the demo shows, and the run that fills it."""

    def __init__(self, wanted: Settings, url: str) -> None:
        self._settings = wanted
        self._url = url
        self._signals: list[dict[str, Any]] = []
        self._alerts = 0
        self._rows: dict[str, int] = {}
        self._first = 0
        self._collector: Collector | None = None
        self._phase = "starting the simulated exchange"
        self._progress = Progress(
            TextColumn("{task.description}"), BarColumn(40), TaskProgressColumn(), TimeElapsedColumn()
        )
        self._caught_up = self._progress.add_task("simulated time up to now", total=None)
        self._swept = self._progress.add_task("sweep", total=None, visible=False)
        self._sweep_id: str | None = None

    # The run

    async def run(self, live: float, hours: float) -> None:
        """Do the whole job once."""
        from alerts.dispatcher import Outlet
        from deltatape import demo as job
        from deltatape.alert_options import AlertOptions
        from deltatape.daemon import Daemon

        start = await asyncio.to_thread(job.start_time, self._url, hours)
        async with job.simulator(start) as simulator:
            self._first = start
            # A simulated market tells nobody outside.
            settings = self._settings.model_copy(update={"alerts": AlertOptions()})
            outlets = {"console": Outlet(_Counted(self))}
            daemon = Daemon(settings, self._url, [simulator.target], outlets)
            running = asyncio.create_task(daemon.run())
            showing = asyncio.create_task(self._show())
            working = asyncio.create_task(self._work(daemon.collectors, live))
            try:
                done, _ = await asyncio.wait([running, working, showing], return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    task.result()
            finally:
                for task in (working, running, showing):
                    task.cancel()
                await asyncio.gather(working, running, showing, return_exceptions=True)

    async def _work(self, collectors: Sequence[Collector], live: float) -> None:
        from deltatape import demo as job
        from deltatape.sweeps import run_sweep
        from storage.clock import wall_clock

        while not collectors:
            await asyncio.sleep(0.1)
        self._collector = collectors[0]
        self._phase = "catching up: the exchange runs as fast as it is collected"
        while self._time() < wall_clock() - job.CAUGHT_UP:
            await asyncio.sleep(0.2)
        self._phase = "live: the exchange runs at real speed"
        await asyncio.sleep(live)
        self._phase = "signals up to now"
        await asyncio.to_thread(job.follow_signals, self._url, self._settings.signals)
        self._phase = "sweeping over what was collected"
        self._progress.update(self._swept, visible=True)
        done = await asyncio.to_thread(
            run_sweep,
            self._url,
            job.SWEEP,
            progress=lambda count, total: self._progress.update(self._swept, completed=count, total=total),
        )
        if done is not None:
            self._sweep_id = str(done.sweep_id)
            self._progress.update(self._swept, total=done.total, completed=done.total)

    def _time(self) -> int:
        streams = self._collector.session.streams.values() if self._collector else ()
        return min((stream.time for stream in streams), default=0)

    def alerted(self, count: int) -> None:
        """So many alerts were sent to the console."""
        self._alerts += count

    # The picture

    async def _show(self) -> None:
        if not output.console.is_terminal:
            while True:
                await self._refresh()
                output.console.print(self._line(), markup=False, soft_wrap=True)
                await asyncio.sleep(PLAIN_SECONDS)
        with Live(self._picture(), console=output.console, refresh_per_second=4, transient=True) as view:
            while True:
                await self._refresh()
                view.update(self._picture())
                await asyncio.sleep(REFRESH_SECONDS)

    async def _refresh(self) -> None:
        from storage.clock import wall_clock

        self._rows = await asyncio.to_thread(_row_counts, self._url)
        self._signals = await asyncio.to_thread(_newest_signals, self._url)
        if time := self._time():
            now = wall_clock()
            self._progress.update(
                self._caught_up, total=now - self._first, completed=min(time, now) - self._first
            )

    def _line(self) -> str:
        rows = ", ".join(f"{count:,} {name}" for name, count in self._rows.items() if count)
        time = self._time()
        at = f" · simulated time {format_time(time - time % MICROSECONDS)}" if time else ""
        return f"{self._phase}{at} · stored: {rows or 'nothing yet'}"

    def _picture(self) -> RenderableType:
        time = self._time()
        head = Text.assemble(
            ("simulated exchange", "bold magenta"),
            f"  {self._phase}",
            (f"  {format_time(time - time % MICROSECONDS)}" if time else "", "cyan"),
        )
        stored = Table("table", "rows", box=None, header_style="bold", padding=(0, 2))
        for name, count in self._rows.items():
            stored.add_row(name, f"{count:,}")
        side = Table.grid(padding=(0, 4))
        side.add_row(Panel(stored, title="stored"), Panel(self._latest(), title="latest signals"))
        return Group(head, self._progress, side, Text(f"{self._alerts:,} alerts sent to the console", "dim"))

    def _latest(self) -> RenderableType:
        if not self._signals:
            return Text("none yet: the first strategies need some candles to warm up", "dim")
        return Group(*map(_signal_text, self._signals))

    # The end

    def summary(self) -> None:
        """Everything that there is now, as tables, a curve and what to do next."""
        from backtest import history
        from deltatape.cli.runs import run_table, show_run
        from storage import database

        console = output.console
        with database.connect(self._url) as connection:
            rows = _row_counts(self._url)
            self._signals = _newest_signals(self._url)
            output.table(
                "stored (simulated market)", ["table", "rows"], [(n, f"{c:,}") for n, c in rows.items()], ""
            )
            console.print(Panel(self._latest(), title="latest signals, simulated market", title_align="left"))
            if self._sweep_id is not None:
                sweep = history.sweep(connection, self._sweep_id)
                best = history.best(connection, sweep["id"], sweep["definition"]["rank_by"], 5)
                run_table("best runs of the sweep, simulated market", best, empty="")
                if sweep["best_backtest_id"] is not None:
                    show_run(connection, str(sweep["best_backtest_id"]), self._settings.home, as_json=False)
        console.print("\nnow from a live exchange:", style="bold")
        console.print(
            "  .venv/bin/deltatape collect --exchange kraken --symbols BTC/USD,ETH/USD", markup=False
        )
        console.print("  .venv/bin/deltatape up --exchange kraken --symbols BTC/USD", markup=False)


class _Counted:
    """The console channel of the demo: the screen has no room for each alert, so they are counted."""

    def __init__(self, screen: Screen) -> None:
        self._screen = screen

    def send(self, alerts: Sequence[Alert]) -> None:
        """Count them; the signals behind them stand on the screen."""
        self._screen.alerted(len(alerts))

    def close(self) -> None:
        """It holds nothing."""


def _row_counts(url: str) -> dict[str, int]:
    from storage import database, overview

    with database.connect(url) as connection:
        counts = overview.row_counts(connection)
    return {name: counts[name] for name in SHOWN_TABLES}


def _newest_signals(url: str) -> list[dict[str, Any]]:
    from deltatape.demo import EXCHANGE
    from storage import read

    return read.signals(url, EXCHANGE, limit=SHOWN_SIGNALS).reverse().to_dicts()


def _signal_text(row: dict[str, Any]) -> Text:
    kind = row["signal_type"]
    text = Text.assemble(
        (f"{kind:<11}", _COLOURS.get(kind, "")),
        f" {row['symbol']} {row['interval']}  {row['confidence_score']:.0f}/100 at {row['price']:g}  ",
        (f"{row['timestamp']:%Y-%m-%d %H:%M}", "dim"),
    )
    for reason in row["reasons"][:2]:
        text.append(f"\n    {reason}", "dim")
    return text
