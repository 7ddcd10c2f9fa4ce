"""`deltatape db`: the database that Deltatape works on; starting, stopping, migrating it, and its shell."""

import os
import shutil
from pathlib import Path
from typing import Annotated, Any

import typer

from deltatape import settings
from deltatape.cli import (
    db_backup,
    db_check,
    db_compress,
    db_copy,
    db_restore,
    db_retain,
    db_roles,
    db_stats,
    db_tier,
)
from deltatape.cli.output import console, print_json, say
from market import Unavailable, WrongUse
from storage import server

app = typer.Typer(epilog="Example: deltatape db start")

JsonFlag = Annotated[bool, typer.Option("--json", help="One JSON object instead of lines.")]


@app.command(epilog="Example: deltatape db start")
def start() -> None:
    """Start the private server.

    It is made the first time, and left alone where it already runs.
    """
    current = settings.load()
    if current.database_url:
        _print_status(_status(current))
        say("DELTATAPE_DATABASE_URL names this database: nothing to start")
        return
    server.start(current.home, report=say)
    _print_status(_status(current))


@app.command(epilog="Example: deltatape db stop")
def stop() -> None:
    """Stop the private server.

    Open sessions are ended; the command waits until the server is gone.
    """
    current = settings.load()
    if current.database_url:
        raise WrongUse(
            "DELTATAPE_DATABASE_URL names a database that is not ours to stop: "
            "unset it to stop the private server"
        )
    was_running = server.stop(current.home)
    console.print("stopped" if was_running else "it was not running")


@app.command(epilog="Example: deltatape db status --json")
def status(as_json: JsonFlag = False) -> None:
    """Say which database is in use.

    And whether it runs, its versions and size, and how its backups do; nothing is started.
    """
    from deltatape.doctor import backups

    current = settings.load()
    found, findings = _status(current), list(backups.check(current))
    if as_json:
        print_json(found | {"backups": findings})
    else:
        _print_status(found)
        for finding in findings:
            console.print(f"{finding.check}: {finding.text}", markup=False, soft_wrap=True)


@app.command(epilog='Example: psql "$(deltatape db url)"')
def url() -> None:
    """Print the database's URL.

    The private server is started when it does not run.
    """
    typer.echo(settings.load().database())


@app.command(
    epilog="Example: deltatape db psql -c 'SELECT count(*) FROM trades'",
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
)
def psql(context: typer.Context) -> None:
    """Open psql on the database.

    Whatever follows is handed to psql.
    """
    from psycopg.conninfo import conninfo_to_dict, make_conninfo

    from storage.database import connect

    current = settings.load()
    target = current.database()
    connect(target).close()  # what is wrong is said as everywhere, not in psql's way
    parts = conninfo_to_dict(target)
    # Everyone can see a program's arguments, only its owner the environment.
    password = parts.pop("password", None)
    environment = {**os.environ, "PGPASSWORD": str(password)} if password else dict(os.environ)
    program = _psql(current)
    command = [str(program), "-d", make_conninfo("", **parts), *context.args]
    os.execve(program, command, environment)  # noqa: S606 - the user's own shell on the database


@app.command(epilog="Example: deltatape db upgrade")
def upgrade(
    revision: Annotated[str, typer.Argument(help="Schema revision to go to.")] = "head",
) -> None:
    """Bring TimescaleDB and the tables up to date.

    Harmless where they already are.
    """
    import migrations

    current = settings.load()
    migrations.upgrade(current.database(), revision)
    _print_status(_status(current))


@app.command(epilog="Example: deltatape db downgrade 0004 --yes")
def downgrade(
    revision: Annotated[str, typer.Argument(help="Schema revision to go back to, or base.")],
    yes: Annotated[bool, typer.Option("--yes", help="Really drop those tables.")] = False,
) -> None:
    """Take the tables back to an older revision.

    Newer tables are dropped with all their rows.
    """
    import migrations

    if not yes:
        raise WrongUse(f"going back to {revision} drops tables with all their rows: add --yes to do it")
    current = settings.load()
    migrations.downgrade(current.database(), revision)
    _print_status(_status(current))


app.command(epilog="Example: deltatape db stats")(db_stats.stats)
app.command(epilog="Example: deltatape db compress --dry-run")(db_compress.compress)
app.command(epilog="Example: deltatape db tier --dry-run")(db_tier.tier)
app.command(epilog="Example: deltatape db retain --dry-run")(db_retain.retain)
app.command(epilog="Example: deltatape db check --from 2026-03-01")(db_check.check)
app.command(epilog="Example: deltatape db backup --folder /mnt/backups/deltatape")(db_backup.backup)
app.command(epilog="Example: deltatape db restore --to 2026-03-01T12:00:00Z --yes")(db_restore.restore)
app.command(epilog="Example: deltatape db copy --to postgresql://deltatape@localhost:5433/deltatape")(
    db_copy.copy
)
app.command(epilog="Example: deltatape db roles")(db_roles.roles)


def _psql(current: settings.Settings) -> Path:
    """The private server's own psql, else one on the PATH."""
    program = server.program(current.home, "psql")
    on_path = shutil.which("psql")
    if current.database_url and on_path:
        program = Path(on_path)
    if program is None and on_path:
        program = Path(on_path)
    if program is None:
        raise Unavailable("no psql on this machine: install a PostgreSQL client, or use `deltatape sql`")
    return program


def _status(current: settings.Settings) -> dict[str, Any]:
    """What `status` shows: null where it does not apply or the server does not run."""
    found: dict[str, Any] = {
        "is_private": current.database_url is None,
        "is_running": True,
        "home": None,
        "pid": None,
        "programs": None,
    }
    target = current.database_url
    if target is None:
        private = server.status(current.home)
        target = private.url
        found |= {"is_running": private.is_running, "home": private.home, "pid": private.pid}
        found |= {"programs": private.programs or None}
    facts: dict[str, Any] = dict.fromkeys(
        ("database", "postgresql", "timescaledb", "edition", "revision", "head", "size_bytes")
    )
    if found["is_running"]:
        facts |= _facts(target)
    return found | facts


def _facts(target: str) -> dict[str, Any]:
    """What the running database says of itself."""
    import migrations
    from storage.database import connect, describe, schema_revision

    with connect(target) as connection:
        row = connection.execute(
            "SELECT current_setting('server_version'), pg_database_size(current_database()),"
            " (SELECT extversion FROM pg_extension WHERE extname = 'timescaledb'),"
            " current_setting('timescaledb.license', true)"
        ).fetchone()
        revision = schema_revision(connection)
    postgresql, size, timescaledb, edition = row or (None, None, None, None)
    return {
        "database": describe(target),
        "postgresql": str(postgresql).split()[0],
        "timescaledb": timescaledb,
        "edition": edition or None,
        "revision": revision,
        "head": migrations.head(),
        "size_bytes": size,
    }


def _print_status(found: dict[str, Any]) -> None:
    if not found["is_running"]:
        console.print(f"the private server in {found['home']} is stopped; start it: deltatape db start")
        return
    where = f"private server in {found['home']}, process {found['pid']}"
    console.print(where if found["is_private"] else found["database"], markup=False, soft_wrap=True)
    extension = f"TimescaleDB {found['timescaledb']} ({found['edition']} edition)"
    console.print(
        f"PostgreSQL {found['postgresql']}, {extension if found['timescaledb'] else 'no TimescaleDB'}, "
        f"{found['size_bytes'] / 2**20:,.0f} MiB"
    )
    if found["revision"] == found["head"]:
        console.print(f"tables at revision {found['revision']}, which is the newest")
    else:
        held = f"at revision {found['revision']}" if found["revision"] else "not there"
        console.print(f"tables {held}; bring them to {found['head']}: deltatape db upgrade")
