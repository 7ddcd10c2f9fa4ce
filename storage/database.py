"""Connections to the database, and what must be true of it before anyone works on it."""

from typing import TYPE_CHECKING, Any, Literal

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from market.errors import Unavailable, WrongUse

if TYPE_CHECKING:
    from sqlalchemy import Engine

Connection = psycopg.Connection[tuple[Any, ...]]

# The Alembic revision whose tables storage.tables describes; a test holds it to migrations.head().
SCHEMA_REVISION = "0018"

_CONNECT_SECONDS = 10
# Neither a parallel plan nor TimescaleDB's aggregation chunk by chunk: both would send the state of
# `first(price, (timestamp, trade_seq))` from one part of the plan to another, and PostgreSQL cannot read an
# anonymous row back. And where TimescaleDB compresses, it refuses a statement that unpacks more rows than a
# limit; to heal a day, or to rebuild its candles, touches each of them.
_SETTINGS = {
    "timezone": "UTC",
    "max_parallel_workers_per_gather": "0",
    "timescaledb.enable_chunkwise_aggregation": "off",
    "timescaledb.max_tuples_decompressed_per_dml_transaction": "0",
}
_SESSION = " ".join(f"-c {name}={value}" for name, value in _SETTINGS.items())


def connect(
    url: str,
    *,
    application_name: str = "deltatape",
    autocommit: bool = False,
    read_only: bool = False,
) -> Connection:
    """Connect to the database, with UTC as the session's time zone.

    Args:
        url: a libpq URL or key=value string.
        application_name: what pg_stat_activity shows.
        autocommit: commit each statement by itself.
        read_only: every transaction is READ ONLY, so that the server refuses each write.

    Raises:
        WrongUse: `url` is not a PostgreSQL URL.
        Unavailable: the server does not answer, or refuses.
    """
    target = describe(url)
    options = f"{conninfo_to_dict(url).get('options') or ''} {_SESSION}".strip()
    try:
        connection = psycopg.connect(
            url,
            application_name=application_name,
            autocommit=autocommit,
            options=options,
            connect_timeout=_CONNECT_SECONDS,
            # A server that is gone without a word is noticed within half a minute.
            keepalives_idle=10,
            keepalives_interval=5,
            keepalives_count=4,
            tcp_user_timeout=30_000,
        )
    except psycopg.OperationalError as error:
        raise Unavailable(f"cannot connect to {target}: {reason(error)}") from error
    connection.read_only = read_only or None
    return connection


def another(connection: Connection) -> Connection:
    """A further connection to the same database as the same user.

    Raises:
        Unavailable: as `connect`.
    """
    info = connection.info
    return connect(make_conninfo(info.dsn, password=info.password or None))


def engine(url: str) -> "Engine":
    """An SQLAlchemy engine whose connections are those of `connect`, none of them kept."""
    # Only migrations speak SQLAlchemy to the database; its import is a quarter of a short command.
    from sqlalchemy import create_engine
    from sqlalchemy.pool import NullPool

    return create_engine("postgresql+psycopg://", creator=lambda: connect(url), poolclass=NullPool)


def describe(url: str) -> str:
    """Which database `url` names, without user or password, for messages.

    Raises:
        WrongUse: `url` is not a PostgreSQL URL.
    """
    try:
        parts = conninfo_to_dict(url)
    except psycopg.ProgrammingError as error:
        raise WrongUse(
            f"not a PostgreSQL URL ({reason(error)}); write it like postgresql://user@host:5432/name"
        ) from error
    host = parts.get("host") or parts.get("hostaddr") or "the local socket"
    return f"database {parts.get('dbname') or '(default)'} at {host}"


def reason(error: psycopg.Error) -> str:
    """What the server or libpq says, in one line."""
    text = error.diag.message_primary or str(error)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


def edition(connection: Connection) -> Literal["apache", "timescale"]:
    """Which edition of TimescaleDB answers: `apache` has no compression, `timescale` has.

    Raises:
        Unavailable: the database has no TimescaleDB.
    """
    row = connection.execute("SELECT current_setting('timescaledb.license', true)").fetchone()
    licence = row[0] if row else None
    if licence not in ("apache", "timescale"):
        raise Unavailable("the database has no TimescaleDB; run: deltatape db upgrade")
    return "apache" if licence == "apache" else "timescale"


def require_schema(connection: Connection) -> None:
    """Check that the tables are there, in the revision that this code speaks.

    Raises:
        Unavailable: they are not; the message names the command that makes them.
    """
    found = schema_revision(connection)
    if found is None:
        raise Unavailable("the database has no Deltatape tables yet; run: deltatape db upgrade")
    if found != SCHEMA_REVISION:
        raise Unavailable(
            f"the database is at schema revision {found}, this Deltatape needs {SCHEMA_REVISION};"
            " run: deltatape db upgrade"
        )


def schema_revision(connection: Connection) -> str | None:
    """The schema revision that the database is at; None where it has no Deltatape tables."""
    present = connection.execute("SELECT to_regclass('alembic_version') IS NOT NULL").fetchone()
    if not present or not present[0]:
        return None
    row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    return row[0] if row else None
