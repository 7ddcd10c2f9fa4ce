"""`deltatape db roles`: a reader for notebooks and a writer for collectors."""

from typing import Annotated, Any
from urllib.parse import urlsplit

import typer
from msgspec import structs

from deltatape import settings
from deltatape.cli import output


def roles(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Make the database's reader and writer.

    Or bring their rights up to date. The reader sees all and changes nothing: for notebooks and deltatape
    sql. The writer fills tables and changes none: for collectors. Their passwords are taken from
    DELTATAPE_ROLES__READER_PASSWORD and DELTATAPE_ROLES__WRITER_PASSWORD, or stay as they are; the private
    server asks for none.
    """
    from storage.database import connect
    from storage.roles import make_roles
    from storage.server import superuser_url

    current = settings.load()
    url = current.database()
    given = {"reader": current.roles.reader_password, "writer": current.roles.writer_password}
    passwords = {kind: secret.get_secret_value() for kind, secret in given.items() if secret is not None}
    with connect(url if current.database_url else superuser_url(current.home)) as connection:
        made = make_roles(connection, passwords)
    found: list[dict[str, Any]] = [{**structs.asdict(role), "url": _as(url, role.name)} for role in made]
    if as_json:
        output.print_json(found)
        return
    rows = [(one["name"], "made" if one["is_new"] else "up to date", one["may"]) for one in found]
    output.table("roles", ["role", "", "may"], rows, empty="")
    for one in found:
        output.console.print(one["url"], markup=False, soft_wrap=True)


def _as(url: str, role: str) -> str:
    """The URL with another user, and without a password."""
    parts = urlsplit(url)
    place = parts.netloc.rpartition("@")[2]
    return parts._replace(netloc=f"{role}@{place}").geturl()
