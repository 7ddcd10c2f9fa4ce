"""The schema's history: brings a database to a revision, all of it or nothing."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from psycopg import errors
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from market.errors import Unavailable, WrongUse
from storage.database import connect, describe, engine, reason, schema_revision

__all__ = ["current", "downgrade", "head", "revisions", "upgrade"]

_EXTENSIONS = ("timescaledb", "btree_gist")
# Two upgrades at once wait for each other on this advisory lock: the bytes of "dt".
_LOCK = 0x6474


def revisions() -> list[str]:
    """Every revision that this code knows, oldest first."""
    script = ScriptDirectory(str(Path(__file__).parent))
    return [each.revision for each in script.walk_revisions()][::-1]


def head() -> str:
    """The newest revision that this code knows."""
    return revisions()[-1]


def current(url: str) -> str | None:
    """The revision that the database is at; None where it has no schema.

    Raises:
        Unavailable: the database does not answer.
    """
    with connect(url) as connection:
        return schema_revision(connection)


def upgrade(url: str, revision: str = "head") -> None:
    """Bring the database up to `revision`: extensions, time zone and tables.

    Raises:
        WrongUse: no such revision, or the database is already past it.
        Unavailable: the database does not answer, has no TimescaleDB, or is newer than this code.
    """
    target = head() if revision == "head" else revision
    rank = _rank(target)
    _newest_timescaledb(url)
    with _migrating(url) as connection:
        if rank < _locked_rank(connection):
            raise WrongUse(f"the database is past revision {target}; to go back: deltatape db downgrade")
        _prepare(connection)
        _run(connection, command.upgrade, target)


def downgrade(url: str, revision: str) -> None:
    """Take the database down to `revision`; `base` leaves nothing but the extensions.

    The tables of what is undone are dropped with all their rows.

    Raises:
        WrongUse: no such revision, or the database has not reached it.
        Unavailable: the database does not answer, or is newer than this code.
    """
    rank = _rank(revision)
    with _migrating(url) as connection:
        if rank > _locked_rank(connection):
            raise WrongUse(f"the database is below revision {revision}; to go up: deltatape db upgrade")
        _run(connection, command.downgrade, revision)
        if revision == "base":
            connection.execute(text("DROP TABLE IF EXISTS alembic_version"))


def _rank(revision: str) -> int:
    """Where `revision` stands in the history; 0 is the empty database."""
    known = ["base", *revisions()]
    if revision not in known:
        raise WrongUse(f"no schema revision {revision!r}: use one of {', '.join(known)} or head")
    return known.index(revision)


def _locked_rank(connection: Connection) -> int:
    """Where the database stands, which nobody else changes before this transaction ends."""
    connection.execute(text(f"SELECT pg_advisory_xact_lock({_LOCK})"))
    if connection.execute(text("SELECT to_regclass('alembic_version')")).scalar_one() is None:
        return 0
    found = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    if found is None:
        return 0
    if found not in revisions():
        raise Unavailable(
            f"the database is at schema revision {found}, which is newer than this Deltatape:"
            " update Deltatape"
        )
    return _rank(found)


def _prepare(connection: Connection) -> None:
    for extension in _EXTENSIONS:
        connection.execute(text(f"CREATE EXTENSION IF NOT EXISTS {extension}"))
    is_utc = text("""
        SELECT EXISTS (
            SELECT FROM pg_db_role_setting JOIN pg_database ON pg_database.oid = setdatabase
            WHERE datname = current_database() AND setrole = 0 AND 'TimeZone=UTC' = ANY (setconfig))
    """)
    if not connection.execute(is_utc).scalar_one():
        name = connection.execute(text("SELECT quote_ident(current_database())")).scalar_one()
        connection.exec_driver_sql(f"ALTER DATABASE {name} SET timezone = 'UTC'")


def _run(connection: Connection, action: Callable[[Config, str], None], revision: str) -> None:
    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    action(config, revision)


def _newest_timescaledb(url: str) -> None:
    """Update an installed TimescaleDB to the version of the server's files.

    It must be the first statement of its session: any other one loads the old library first, or
    fails where the server has only the new one.
    """
    with connect(url, autocommit=True) as connection:
        try:
            connection.execute("ALTER EXTENSION timescaledb UPDATE")
        except (errors.UndefinedObject, errors.InsufficientPrivilege):
            return  # not installed yet; or not ours to update, as in a hosted database


@contextmanager
def _migrating(url: str) -> Iterator[Connection]:
    """One transaction on the database; says what is missing where it cannot be migrated."""
    try:
        with engine(url).connect() as connection, connection.begin():
            yield connection
    except DBAPIError as error:
        advice = _advice(error.orig) if isinstance(error.orig, psycopg.Error) else None
        if advice is None:
            raise
        raise Unavailable(f"cannot migrate {describe(url)}: {advice}") from error


def _advice(error: psycopg.Error) -> str | None:
    if isinstance(error, errors.InsufficientPrivilege):
        return f"{reason(error)}; connect as the owner of the database"
    if isinstance(error, errors.DuplicateTable):
        return f"{reason(error)} and is not ours; name an empty database"
    if isinstance(error, errors.FeatureNotSupported | errors.UndefinedFile):
        return f"{reason(error)}; use a server with TimescaleDB, such as: docker compose up -d db"
    if isinstance(error, errors.InternalError_):
        return f"{reason(error)}; add it to shared_preload_libraries and restart the server"
    if isinstance(error, psycopg.OperationalError):
        return f"{reason(error)}; see the server's log"
    return None
