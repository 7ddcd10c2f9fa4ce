"""Work that outlives the database: begun anew for as long as it is away."""

import logging
from collections.abc import Callable, Iterator
from random import uniform
from threading import Event
from typing import TypeVar

import psycopg

from market.errors import Unavailable
from storage.database import describe, reason

FIRST_DELAY = 0.5
LONGEST_DELAY = 30.0

Item = TypeVar("Item")
_log = logging.getLogger(__name__)


def reconnecting(url: str, work: Callable[[], Iterator[Item]], stop: Event) -> Iterator[Item]:
    """Yield what `work()` yields; when it loses the database, begin it again, until `stop` is set.

    Args:
        url: the database, for messages.
        work: connects by itself, and continues where the tables say that it was left.
        stop: set to give up waiting.

    Raises:
        Unavailable: the database was away before `work` yielded for the first time.
    """
    has_begun, delay = False, FIRST_DELAY
    while True:
        try:
            for item in work():
                has_begun, delay = True, FIRST_DELAY
                yield item
        except (psycopg.OperationalError, psycopg.InterfaceError, Unavailable) as error:
            why = str(error) if isinstance(error, Unavailable) else f"lost {describe(url)}: {reason(error)}"
            if not has_begun:
                raise Unavailable(why) from error
            _log.warning("%s; trying again", why)
        else:
            return
        if stop.wait(uniform(delay / 2, delay)):
            return
        delay = min(2 * delay, LONGEST_DELAY)
