"""Repairing a tape: what the database alone can put right, then every open hole over REST."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from collector.collect import Target, check_url, drain_left_behind, learn_instruments
from collector.heal import heal, open_gaps
from collector.heal_together import groups, heal_together
from collector.rest import Refused
from market import DAY, Unavailable, WrongUse
from market.timeframe import to_datetime
from storage import database, repair, verify
from storage.amend import DayIsPast
from storage.holes import Hole
from storage.orphans import adopt

Say = Callable[[str], None]


@dataclass(slots=True)
class Repaired:
    """What a repair did: to trades, to what nothing proved, to days; holes by what became of them."""

    spooled_batches: int = 0
    trades_renamed: int = 0
    duplicates_removed: int = 0
    spans_added: int = 0
    days_recomputed: int = 0
    holes_found: int = 0
    holes_healed: int = 0
    holes_empty: int = 0
    holes_unhealable: int = 0
    holes_left: int = 0


async def run(
    url: str,
    spool: Path,
    exchange: str | None,
    symbol: str | None,
    rest_url: str | None,
    say: Say,
) -> Repaired:
    """Repair every instrument of the tape, or those that are named; live collectors may go on meanwhile.

    Args:
        url: the database.
        spool: where collectors keep what the database did not take.
        exchange: its instruments only.
        symbol: this one only.
        rest_url: scheme, host and port instead of the exchange's own; needs `exchange`.
        say: told what goes on, a line each.

    Raises:
        WrongUse: an exchange or symbol of which nothing is on the tape, or `rest_url` is no address.
        Unavailable: the database does not answer.
    """
    if rest_url is not None and exchange is None:
        raise WrongUse("--rest-url is one exchange's: name it with --exchange")
    check_url("--rest-url", rest_url, "http", "https")
    done = Repaired()
    done.spooled_batches = await asyncio.to_thread(_drain, url, spool, exchange)
    await asyncio.to_thread(_repair_rows, url, exchange, symbol, done, say)
    for known in sorted({gap.exchange for gap in await asyncio.to_thread(_open, url, exchange, symbol)}):
        gaps = await asyncio.to_thread(_open, url, known, symbol)
        await _heal(url, Target(exchange=known, symbols=(), rest_url=rest_url), gaps, done, say)
    return done


def _drain(url: str, spool: Path, exchange: str | None) -> int:
    if not spool.is_dir():
        return 0
    batches = 0
    for folder in sorted(spool.iterdir()):
        if exchange in (None, folder.name):
            batches += drain_left_behind(url, folder.name, folder)
    return batches


def _repair_rows(url: str, exchange: str | None, symbol: str | None, done: Repaired, say: Say) -> None:
    with database.connect(url, application_name="deltatape repair") as connection:
        database.require_schema(connection)
        known = verify.instruments(connection, exchange, symbol)
        connection.rollback()
        for key in known:
            with verify.snapshot(connection, *key) as tape:
                wrong = [day for day in tape.days if _is_repairable(tape.prove(day))]
            for day in wrong:
                say(f"{' '.join(key)}: repairing {to_datetime(day):%Y-%m-%d}")
                _repair_day(connection, *key, day, done)


def _is_repairable(proof: verify.DayProof) -> bool:
    kinds = (proof.duplicates, proof.orphans, proof.cvd, proof.candles)
    return bool(proof.ids_missing or proof.ids_renamed or any(kind.count for kind in kinds))


def _repair_day(
    connection: database.Connection, exchange: str, symbol: str, day: int, done: Repaired
) -> None:
    """Kind after kind, each in a transaction: what is repaired first changes what is wrong after it."""
    key = exchange, symbol

    def prove() -> verify.DayProof:
        with verify.snapshot(connection, *key, day, day + DAY) as tape:
            return tape.prove(day)

    proof = prove()
    if proof.ids_renamed or proof.duplicates.count:
        with connection.transaction():
            done.trades_renamed += repair.rename(connection, *key, day)
            done.duplicates_removed += repair.remove_duplicates(connection, *key, day)
        proof = prove()
    missing = None
    while proof.missing_runs and proof.ids_missing != missing:
        # One proof names so many; those on record are missing no more.
        missing = proof.ids_missing
        with connection.transaction():
            done.holes_found += repair.record_holes(connection, *key, proof.missing_runs)
        proof = prove()
    if proof.orphans.count:
        with connection.transaction():
            adopted = adopt(connection, *key, day, day + DAY, "healed", "repair")
        done.spans_added += adopted.spans
        done.holes_found += adopted.holes
        proof = prove()
    if proof.cvd.count or proof.candles.count:
        with connection.transaction():
            repair.recompute(connection, *key, day)
        done.days_recomputed += 1


def _open(url: str, exchange: str | None, symbol: str | None) -> list[Hole]:
    with database.connect(url) as connection:
        return open_gaps(connection, exchange, None if symbol is None else [symbol])


async def _heal(url: str, target: Target, gaps: list[Hole], done: Repaired, say: Say) -> None:
    """Heal the holes of one exchange; those that it does not answer for now are left."""
    try:
        adapter = target.adapter()
    except WrongUse as error:
        say(str(error))
        done.holes_left += len(gaps)
        return
    rest = target.rest(adapter)
    left = len(gaps)
    unanswered: set[str] = set()
    try:
        await learn_instruments(adapter, rest)
        for group in groups(gaps):
            say(f"{target.exchange} {group[0].symbol}: healing {len(group)} holes")
            try:
                await heal_together(group, adapter, rest, url)
            except Refused:
                raise
            except (Unavailable, WrongUse) as error:
                say(str(error))
        known = {gap.id for gap in await asyncio.to_thread(_open, url, target.exchange, None)}
        done.holes_healed += sum(gap.id not in known for gap in gaps)
        left = sum(gap.id in known for gap in gaps)
        for gap in gaps:
            if gap.symbol in unanswered or gap.id not in known:
                continue
            say(f"{gap.exchange} {gap.symbol}: healing a hole of {gap.missing_count or 'unknown'} trades")
            try:
                outcome = await heal(gap, adapter, rest, url)
            except Refused:
                raise
            except DayIsPast as error:
                say(str(error))
                continue
            except (Unavailable, WrongUse) as error:
                # One instrument of which the exchange knows nothing must not keep it from the others.
                say(str(error))
                unanswered.add(gap.symbol)
                continue
            left -= 1
            done.holes_healed += outcome in ("healed", "lacking", "closed")
            done.holes_empty += outcome == "empty"
            done.holes_unhealable += outcome == "unhealable"
    except (Unavailable, WrongUse) as error:
        say(str(error))
    finally:
        done.holes_left += left
        await rest.close()
