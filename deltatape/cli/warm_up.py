"""`deltatape warm-up`: machine code made before it is needed."""

from time import perf_counter

import typer
from msgspec import Raw

from deltatape import settings
from deltatape.cli import output

app = typer.Typer()


@app.command("warm-up", epilog="Example: deltatape warm-up")
def warm_up() -> None:
    """Compile what order books, backtests and signals run.

    Done once for a version on a machine, so that no later command waits for it; an image or a test run does
    it ahead. What is compiled is kept below the home, and made anew when the sources change.
    """
    settings.load()
    begun = perf_counter()
    from backtest.warm import warm_up as warm
    from collector.exchanges.texts import Numbers
    from market import OrderBook

    with output.steps("runs", "compiling") as report:
        done = 0

        def told(name: str) -> None:
            nonlocal done
            report(done, 0, f"compiling what {name} needs")
            done += 1

        told("an order book")
        OrderBook()
        Numbers().read_sides(Raw(b"[]"), Raw(b"[]"))
        folder = warm(told)
    where = folder or "nowhere: no folder can be written, see DELTATAPE_HOME"
    output.console.print(f"ready in {perf_counter() - begun:.1f} s: {where}", markup=False, soft_wrap=True)
