"""`deltatape`: the verbs, loaded when they are used, and what every failure becomes."""

import atexit
import gc
import importlib
import logging
import sys
from collections.abc import Iterable
from importlib import metadata
from keyword import iskeyword
from typing import Annotated

import typer

from deltatape.cli.output import fail, say
from deltatape.cli.stopping import INTERRUPTED, Stopped
from market import DeltatapeError, Unavailable

_FORBIDDEN = ("42501", "25006")
"""What PostgreSQL says to a role that has no such right, and to one whose transactions only read."""

VERBS = {
    "alerts": "What the outbox holds, and sending it.",
    "backfill": "Past trades and candles onto the tape, over REST.",
    "backtest": "Run strategies over stored candles.",
    "collect": "Trades, books, candles and CVD of an exchange, live.",
    "db": "The database: start, stop, migrate, connect.",
    "demo": "The whole job, offline, against the simulator.",
    "doctor": "What is wrong on this machine, and the fix.",
    "exchanges": "What each exchange gives: trades, books, candles, history.",
    "gaps": "The holes on record, and acknowledging one.",
    "import": "Write trades and candles of others' files onto the tape.",
    "indicators": "Indicators: list, show, compute.",
    "record": "Keep an exchange's raw messages in files.",
    "repair": "Recompute what is wrong, and heal open holes over REST.",
    "replay": "Write recorded messages onto the tape.",
    "serve-recording": "Play a recording back over a local websocket and REST port.",
    "signals": "Compute and list signals.",
    "simulate": "A seeded local exchange with a ground truth.",
    "sql": "One SQL statement, as table, JSON or CSV.",
    "status": "What is stored, how fresh it is, what runs.",
    "sweep": "Backtest a grid of parameters on all cores.",
    "telegram": "The bot that people ask on Telegram.",
    "up": "Everything in one process, until stopped.",
    "verify": "Prove the tape, day by day.",
    "warm-up": "Compile what backtests run, ahead of the first.",
}
"""Each verb, its module `deltatape.cli.<verb>` (with underscores, `import_`), its line in `--help`."""


_GROUPS = {"alerts", "backtest", "db", "gaps", "indicators", "signals", "sweep", "telegram"}
_LISTING = {"gaps"}
"""Groups that list something without a subcommand."""
TRACKED_OBJECTS = 50_000
"""New objects after which garbage is looked for."""


def build(verbs: Iterable[str]) -> typer.Typer:
    """The command line with these verbs; each module's `app` holds one command, or a group of them."""
    app = typer.Typer(
        name="deltatape",
        help="Keeps the whole tape of crypto markets, proves that it is whole, and researches on it.",
        epilog="Example: deltatape collect --exchange kraken --symbols BTC/USD",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )

    @app.callback()
    def root(
        version: Annotated[
            bool, typer.Option("--version", help="Print the version.", callback=_version, is_eager=True)
        ] = False,
    ) -> None:
        """Keeps a callback, so that a single verb stays a subcommand."""

    root.__doc__ = None
    for verb in verbs:
        name = verb.replace("-", "_")
        # A module cannot be called `import`.
        module = importlib.import_module(f"deltatape.cli.{name}{'_' * iskeyword(name)}")
        if verb in _GROUPS:
            app.add_typer(module.app, name=verb, help=VERBS[verb], no_args_is_help=verb not in _LISTING)
        else:
            (command,) = module.app.registered_commands
            command.short_help = VERBS[verb]
            app.add_typer(module.app)
    return app


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"deltatape {metadata.version('deltatape')}")
        raise typer.Exit


def main() -> None:
    """Run the command line; exit codes: 0 done, 1 the answer is no, 2 wrong use, 3 missing, 4 our fault.

    Ctrl-C is a way to end what would run for ever (0), and leaves undone what would end by itself (130).
    """
    # What is imported stays until the end: looking through it for garbage, then and on the way, costs a
    # short command half of its time.
    gc.set_threshold(TRACKED_OBJECTS)
    atexit.register(gc.freeze)
    # Only the verb in use is imported: numba and polars must not slow down `deltatape --help`.
    used = sys.argv[1] if len(sys.argv) > 1 else ""
    verbs = [used] if used in VERBS else [] if used == "--version" else sorted(VERBS)
    try:
        if used in VERBS:
            _configure_logs()
        build(verbs)()
    except Stopped as stopped:
        say(f"stopped: {stopped}")
        sys.exit(INTERRUPTED)
    except DeltatapeError as error:
        fail(str(error))
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        say("stopped")
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        # The reader of a pipe went away (`| head`); what is left has no reader to tell.
        sys.stderr.close()
        sys.exit(0)
    except Exception as error:
        logging.getLogger("deltatape").debug("failed", exc_info=True)
        if getattr(error, "sqlstate", None) in _FORBIDDEN:
            fail(f"{str(error).splitlines()[0]}: connect as a role that may (deltatape db roles)")
            sys.exit(Unavailable.exit_code)
        fail(f"{type(error).__name__}: {error} (DELTATAPE_LOG_LEVEL=DEBUG shows where)")
        sys.exit(4)


def _configure_logs() -> None:
    """Log as the settings say; what is wrong with them is for the verb to say."""
    from deltatape import logs, settings

    try:
        wanted = settings.load()
    except DeltatapeError:
        logs.configure("WARNING", "text")
        return
    logs.configure(wanted.log_level, wanted.log_format)
    logs.hide_connection(wanted.database_url)
    if wanted.deadman.url is not None:
        logs.hide(wanted.deadman.url.get_secret_value())
    if wanted.telegram.token is not None:
        logs.hide(wanted.telegram.token.get_secret_value())
