"""What may be wrong with this machine, its database and its collectors, and the fix for each finding."""

from collections.abc import Iterator
from pathlib import Path

import psycopg

from deltatape.doctor import backups, collecting, machine, server
from deltatape.doctor.finding import Finding, State
from deltatape.settings import Settings
from market import DeltatapeError
from storage import database

__all__ = ["Finding", "State", "examine"]


def examine(settings: Settings | str, home: Path) -> Iterator[Finding]:
    """Check everything that can be checked, one finding each; nothing is started or changed.

    Args:
        settings: the settings in force, or why they cannot be read.
        home: DELTATAPE_HOME.
    """
    yield machine.python()
    yield machine.packages()
    yield machine.settings(settings)
    yield from machine.folder(home)
    if isinstance(settings, str):
        return
    found = server.reach(settings)
    yield found.finding
    if found.url is not None:
        yield from _in_database(found.url, settings)
        yield from backups.check(settings)
    yield from machine.exchange_clocks(settings.collect)


def _in_database(url: str, settings: Settings) -> Iterator[Finding]:
    try:
        with database.connect(url, application_name="deltatape-doctor", read_only=True) as connection:
            yield from server.check(connection)
            if database.schema_revision(connection) == database.SCHEMA_REVISION:
                yield from collecting.check(connection, settings.home)
    except (DeltatapeError, psycopg.Error) as error:
        yield Finding(
            "database", State.ERROR, str(error).strip(), "look at the server's log, then run this again"
        )
