"""Who may do what: the owner changes tables, a writer fills them, a reader only looks.

A role belongs to one database, and is named after it: `deltatape_reader`, `deltatape_writer`.
"""

from collections.abc import Mapping

from msgspec import Struct
from psycopg import errors, sql

from market.errors import Unavailable
from storage.database import Connection, reason, require_schema

KINDS = ("reader", "writer")
_MAY = {
    "reader": "read all tables and views; every transaction is read-only",
    "writer": "read, insert, update and delete rows; change no table",
}
_TABLES = {
    "reader": sql.SQL("SELECT"),
    "writer": sql.SQL("SELECT, INSERT, UPDATE, DELETE"),
}


class Role(Struct, frozen=True):
    """A role, what it may do, and whether it was made just now."""

    kind: str
    name: str
    may: str
    is_new: bool


def make_roles(connection: Connection, passwords: Mapping[str, str]) -> list[Role]:
    """Make the reader and the writer of the database, or bring their rights up to date; all or nothing.

    Tables that later upgrades make are theirs in the same way.

    Args:
        connection: of somebody who may make roles; its transaction is ended.
        passwords: of each kind that gets one. Only their hash leaves this machine; without one, an older
            password stays.

    Raises:
        Unavailable: the tables are not there, or this role may not make others.
    """
    require_schema(connection)
    row = connection.execute(
        "SELECT current_database(), tableowner FROM pg_tables WHERE tablename = 'trades'"
    ).fetchone()
    database, owner = row or ("", "")
    try:
        with connection.transaction():
            made = [_make(connection, kind, database, owner, passwords.get(kind)) for kind in KINDS]
    except (errors.InsufficientPrivilege, errors.ReadOnlySqlTransaction) as error:
        raise Unavailable(
            f"{reason(error)}: connect as a superuser, or as the database's owner with CREATEROLE"
        ) from None
    connection.commit()
    return made


def _make(connection: Connection, kind: str, database: str, owner: str, password: str | None) -> Role:
    name = f"{database}_{kind}"
    role, schema = sql.Identifier(name), sql.SQL("IN SCHEMA public")
    is_new = connection.execute("SELECT FROM pg_roles WHERE rolname = %s", [name]).fetchone() is None
    verb = sql.SQL("CREATE" if is_new else "ALTER")
    statements = [
        sql.SQL("{} ROLE {} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE").format(verb, role),
        sql.SQL("GRANT CONNECT, TEMPORARY ON DATABASE {} TO {}").format(sql.Identifier(database), role),
        sql.SQL("GRANT USAGE ON SCHEMA public TO {}").format(role),
        sql.SQL("REVOKE ALL ON ALL TABLES {} FROM {}").format(schema, role),
        sql.SQL("GRANT {} ON ALL TABLES {} TO {}").format(_TABLES[kind], schema, role),
        sql.SQL("ALTER DEFAULT PRIVILEGES FOR ROLE {} {} GRANT {} ON TABLES TO {}").format(
            sql.Identifier(owner), schema, _TABLES[kind], role
        ),
    ]
    if kind == "reader":
        statements.append(sql.SQL("ALTER ROLE {} SET default_transaction_read_only = on").format(role))
    else:
        statements += [
            # Which revision the tables have only those say who change them.
            sql.SQL("REVOKE INSERT, UPDATE, DELETE ON alembic_version FROM {}").format(role),
            sql.SQL("GRANT USAGE, SELECT ON ALL SEQUENCES {} TO {}").format(schema, role),
            sql.SQL("ALTER DEFAULT PRIVILEGES FOR ROLE {} {} GRANT USAGE, SELECT ON SEQUENCES TO {}").format(
                sql.Identifier(owner), schema, role
            ),
        ]
    if password is not None:
        hashed = connection.pgconn.encrypt_password(password.encode(), name.encode(), b"scram-sha-256")
        statements.append(sql.SQL("ALTER ROLE {} PASSWORD {}").format(role, sql.Literal(hashed.decode())))
    for statement in statements:
        connection.execute(statement)
    return Role(kind, name, _MAY[kind], is_new)
