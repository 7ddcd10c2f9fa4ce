"""`deltatape db copy`: the whole database into another, such as the private server's into a container's."""

from typing import Annotated

import typer

from deltatape import settings
from deltatape.cli import output


def copy(
    to: Annotated[str, typer.Option(help="URL of an empty database; its password better in PGPASSWORD.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Copy everything into another database.

    It is proven that each row is there. Between servers of different versions of PostgreSQL and TimescaleDB,
    and of both editions. The tables are made there as far as they are missing. Stop the collectors first;
    what they miss is healed when they start on the new database. The old one stays as it is.
    """
    import migrations
    from storage.move import copy_database

    source = settings.load().database()
    migrations.upgrade(to)
    moved = copy_database(source, to, output.say)
    if as_json:
        output.print_json(moved)
        return
    output.counts("copied", {one.table: one.rows for one in moved if one.rows})
    output.console.print("each row was compared; from now on name that database: DELTATAPE_DATABASE_URL")
