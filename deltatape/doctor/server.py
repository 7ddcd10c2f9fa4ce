"""The database server: found, running, of the right versions and settings."""

from collections.abc import Iterator
from datetime import UTC, datetime

from msgspec import Struct

from deltatape.doctor.finding import Finding, State
from deltatape.doctor.machine import clock_finding
from deltatape.settings import Settings
from market import DeltatapeError
from storage import database, server

LEAST_LOCKS = 1024
"""One unbounded read of a table with a chunk a day takes three locks a chunk."""
CLOCK_SECONDS = 1.0


class Reached(Struct, frozen=True):
    """Whether the server answers; `url` is None where it does not."""

    finding: Finding
    url: str | None = None


def reach(settings: Settings) -> Reached:
    """Find the server; nothing is started."""
    url = settings.database_url
    try:
        if url is None:
            found = server.status(settings.home)
            if not found.is_running:
                was = "is stopped" if found.origin else "was never started"
                text = f"the private server in {found.home} {was}"
                return Reached(Finding("server", State.WARNING, text, "deltatape db start"))
            url = found.url
        database.connect(url, application_name="deltatape-doctor").close()
        return Reached(Finding("server", State.OK, database.describe(url)), url)
    except DeltatapeError as error:
        fix = "start it, or correct DELTATAPE_DATABASE_URL" if settings.database_url else "deltatape db start"
        return Reached(Finding("server", State.ERROR, str(error), fix))


def check(connection: database.Connection) -> Iterator[Finding]:
    """What the running server says of itself."""
    yield from _versions(connection)
    revision = database.schema_revision(connection)
    if revision == database.SCHEMA_REVISION:
        yield Finding("schema", State.OK, f"revision {revision}")
    else:
        text = f"revision {revision or 'none'}, this Deltatape needs {database.SCHEMA_REVISION}"
        yield Finding("schema", State.ERROR, text, "deltatape db upgrade")
    yield from _settings(connection)
    before = datetime.now(UTC)
    (said,) = connection.execute("SELECT clock_timestamp()").fetchone() or (before,)
    middle = before + (datetime.now(UTC) - before) / 2
    yield clock_finding("clock (database)", (middle - said).total_seconds(), CLOCK_SECONDS)


def _versions(connection: database.Connection) -> Iterator[Finding]:
    (version, timescaledb) = connection.execute(
        "SELECT current_setting('server_version'),"
        " (SELECT extversion FROM pg_extension WHERE extname = 'timescaledb')"
    ).fetchone() or ("", None)
    name = f"PostgreSQL {version.split()[0]}"
    if timescaledb is None:
        yield Finding("versions", State.ERROR, f"{name} without TimescaleDB", "deltatape db upgrade")
        return
    edition = database.edition(connection)
    note = "" if edition == "timescale" else ": no compression"
    yield Finding("versions", State.OK, f"{name}, TimescaleDB {timescaledb} ({edition} edition{note})")


def _settings(connection: database.Connection) -> Iterator[Finding]:
    (locks, commit, zone) = connection.execute(
        "SELECT current_setting('max_locks_per_transaction')::int, current_setting('synchronous_commit'),"
        " coalesce((SELECT split_part(entry, '=', 2) FROM pg_db_role_setting AS setting,"
        "  unnest(setting.setconfig) AS entry WHERE entry ILIKE 'timezone=%' AND setting.setrole = 0"
        "  AND setting.setdatabase = (SELECT oid FROM pg_database WHERE datname = current_database())),"
        " (SELECT reset_val FROM pg_settings WHERE name = 'TimeZone'))"
    ).fetchone() or (0, "", "")
    if locks < LEAST_LOCKS:
        fix = f"start the server with -c max_locks_per_transaction={LEAST_LOCKS}"
        yield Finding("locks", State.ERROR, f"max_locks_per_transaction is {locks}", fix)
    else:
        yield Finding("locks", State.OK, f"max_locks_per_transaction is {locks}")
    if commit == "off":
        fix = "ALTER DATABASE … RESET synchronous_commit"
        yield Finding("commit", State.WARNING, "synchronous_commit is off: a crash loses the last rows", fix)
    else:
        yield Finding("commit", State.OK, f"synchronous_commit is {commit}")
    if str(zone).upper() in ("UTC", "ETC/UTC"):
        yield Finding("time zone", State.OK, "UTC")
    else:
        yield Finding("time zone", State.ERROR, f"{zone}: days begin at another hour", "deltatape db upgrade")
