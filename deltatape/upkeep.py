"""What is done once a day: the backup when it is due, funding; old days compressed, copied away, dropped."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from market import MICROSECONDS, DeltatapeError, Unavailable
from market.timeframe import format_time

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator
    from threading import Event

    from deltatape.settings import Settings
    from storage.database import Connection
    from storage.past import PastTable
    from storage.retention import Rule

    GoOn = Callable[..., None]
    Work = Callable[[str, Settings, int, GoOn], tuple[dict[str, float], list[str]]]
    """Given database, settings, time in microseconds, and what is called between two steps: what was done,
    counted, and a line for each thing that is wrong."""

log = logging.getLogger(__name__)


class Ended(Exception):
    """The daemon is being stopped: what is left is for the next time."""


def rules(settings: Settings) -> list[Rule]:
    """For how long what is kept, as the settings say."""
    from storage.retention import Rule

    return [
        Rule(
            table=options.table,
            days=None if options.days == "forever" else options.days,
            exchange=options.exchange,
            symbol=options.symbol,
            interval=options.interval,
        )
        for options in settings.retain
    ]


def run(url: str, settings: Settings, stop: Event) -> None:
    """Do what is due, one kind after the other; one that fails does not keep the others from it.

    A failure is logged and goes to the outbox. Where another process is at it, nothing is done.

    Args:
        url: the database.
        settings: what to do.
        stop: ends it between two chunks or days.
    """
    from storage import database

    try:
        with database.connect(url, application_name="deltatape upkeep", autocommit=True) as connection:
            row = connection.execute("SELECT pg_try_advisory_lock(hashtextextended('upkeep', 0))").fetchone()
            if row is None or not row[0]:
                log.info("upkeep: another process is at it")
                return
            for name, work in _jobs(connection, settings):
                _do(connection, url, settings, name, work, stop)
    except Ended:
        log.info("upkeep: stopped; what is left is for the next time")
    except DeltatapeError as error:
        log.warning("upkeep: %s", error)


def _jobs(connection: Connection, settings: Settings) -> Iterator[tuple[str, Work]]:
    from storage.database import edition

    if settings.backup.folder is not None and settings.database_url is None:
        yield "backup", _backup
    if settings.collect:
        yield "funding", _funding
    if settings.upkeep.compress and edition(connection) == "timescale":
        yield "compress", _compress
    if settings.tier.url is not None:
        yield "tier", _tier
    if settings.retain:
        yield "retain", _retain


def _do(connection: Connection, url: str, settings: Settings, name: str, work: Work, stop: Event) -> None:
    from storage.metrics import write_metrics

    def go_on(*_: object) -> None:
        if stop.is_set():
            raise Ended

    now, began = round(time.time() * MICROSECONDS), time.monotonic()
    try:
        counts, wrong = work(url, settings, now, go_on)
    except Ended:
        raise
    except Exception as error:
        log.warning("upkeep: %s failed", name, exc_info=not isinstance(error, DeltatapeError))
        counts, wrong = {}, [str(error) or type(error).__name__]
    counts["seconds"] = time.monotonic() - began
    log.info("upkeep: %s: %s", name, ", ".join(f"{count:,.0f} {what}" for what, count in counts.items()))
    measured = {f"{name}_{what}": float(count) for what, count in counts.items()}
    write_metrics(connection, "upkeep", now, measured, {})
    for line in wrong:
        log.error("upkeep: %s: %s", name, line)
    if wrong:
        tell(connection, settings, f"upkeep: {name}", wrong, now)


def tell(connection: Connection, settings: Settings, title: str, wrong: list[str], now: int) -> None:
    """Write to the outbox what is wrong with something that is done each day, once a day."""
    from storage.outbox import AlertType, Event, write_alerts

    event = Event(
        alert_type=AlertType.SYSTEM_ERROR,
        timestamp=now,
        title=title,
        message="\n".join(wrong[:10]),
        dedupe_key=f"{title}:{format_time(now)[:10]}",
        payload={"wrong": len(wrong)},
    )
    with connection.transaction():
        write_alerts(connection, settings.alerts.routes().rows(event))


def _backup(url: str, settings: Settings, now: int, go_on: GoOn) -> tuple[dict[str, float], list[str]]:
    from storage import backup

    options = settings.backup
    if options.folder is None or not backup.is_due(options.folder, now, options.every_days):
        return {"made": 0.0}, []
    made = backup.make_backup(
        settings.home,
        options.folder,
        keep=options.keep,
        most_waiting_bytes=options.waiting_bytes,
        report=log.info,
    )
    return {"made": 1.0, "bytes": float(made.backup.bytes), "removed": float(len(made.removed))}, []


def _funding(url: str, settings: Settings, now: int, go_on: GoOn) -> tuple[dict[str, float], list[str]]:
    """What the perpetual contracts that are collected have paid since the last time."""
    import asyncio

    from collector.backfill_funding import catch_up
    from collector.collect import Target

    paid, wrong = 0, []
    for options in settings.collect:
        go_on()
        target = Target(**options.model_dump())
        try:
            paid += asyncio.run(catch_up(target, url, now))
        except Unavailable as error:
            wrong.append(str(error))
    return {"payments": float(paid)}, wrong


def _compress(url: str, settings: Settings, now: int, go_on: GoOn) -> tuple[dict[str, float], list[str]]:
    from storage.compression import compress_settled

    found = compress_settled(url, now, progress=go_on)
    done = [each for each in found if each.outcome == "compressed"]
    wrong = [f"{each.chunk.name}: {each.note}" for each in found if each.outcome == "refused"]
    return {"chunks": len(done), "bytes": sum(each.bytes for each in done)}, wrong


def _tier(url: str, settings: Settings, now: int, go_on: GoOn) -> tuple[dict[str, float], list[str]]:
    from storage.tiers import copy_old_days

    options = settings.tier
    found = copy_old_days(url, options.url or "", options.tables, options.days, now, progress=go_on)
    done = [each for each in found if each.outcome == "copied"]
    wrong = [f"{each.key}: {each.note}" for each in found if each.outcome == "refused"]
    waiting = sum(each.outcome == "waiting" for each in found)
    return {"days": len(done), "bytes": sum(each.bytes for each in done), "waiting": waiting}, wrong


def _retain(url: str, settings: Settings, now: int, go_on: GoOn) -> tuple[dict[str, float], list[str]]:
    from storage.retention import drop_expired

    found = drop_expired(url, rules(settings), tiered(settings), now, progress=go_on)
    done = [each for each in found if each.outcome == "dropped"]
    wrong = [f"{each.key}: {each.note}" for each in found if each.outcome == "refused"]
    kept = sum(each.outcome == "kept" for each in found)
    return {"days": len(done), "rows": sum(each.rows for each in done), "kept": kept}, wrong


def tiered(settings: Settings) -> Collection[PastTable]:
    """The tables of which nothing is dropped before the tier has it."""
    return settings.tier.tables if settings.tier.url is not None else ()
