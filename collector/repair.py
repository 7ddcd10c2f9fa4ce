"""Repairing a tape: what the database alone can put right, then every open hole over REST."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from collector.collect import Target, drain_left_behind, learn_instruments
from collector.heal import heal, open_gaps
from market import Unavailable, WrongUse
from storage import database, repair, verify
from storage.ledger import GapRow

Say = Callable[[str], None]


@dataclass(slots=True)
class Repaired:
    """What a repair did: days recomputed, trades that were there twice, holes by what became of them."""

    spooled_batches: int = 0
    days_recomputed: int = 0
    duplicates_removed: int = 0
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
        WrongUse: an exchange or symbol of which nothing is on the tape.
        Unavailable: the database does not answer.
    """
    if rest_url is not None and exchange is None:
        raise WrongUse("--rest-url is one exchange's: name it with --exchange")
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
                wrong = [proof for proof in map(tape.prove, tape.days) if not proof.ok]
            for proof in wrong:
                say(f"{proof.exchange} {proof.symbol}: repairing a day")
                with connection.transaction():
                    _repair_day(connection, proof, done)


def _repair_day(connection: database.Connection, proof: verify.DayProof, done: Repaired) -> None:
    key = proof.exchange, proof.symbol
    if proof.duplicates.count:
        done.duplicates_removed += repair.remove_duplicates(connection, *key, proof.day)
    if proof.missing_runs:
        done.holes_found += repair.record_holes(connection, *key, proof.missing_runs)
    if proof.cvd.count or proof.candles.count:
        repair.recompute(connection, *key, proof.day)
        done.days_recomputed += 1


def _open(url: str, exchange: str | None, symbol: str | None) -> list[GapRow]:
    with database.connect(url) as connection:
        return open_gaps(connection, exchange, None if symbol is None else [symbol])


async def _heal(url: str, target: Target, gaps: list[GapRow], done: Repaired, say: Say) -> None:
    """Heal the holes of one exchange; those that it does not answer for now are left."""
    adapter = target.adapter()
    rest = target.rest(adapter)
    left = len(gaps)
    try:
        await learn_instruments(adapter, rest)
        for gap in gaps:
            say(f"{gap.exchange} {gap.symbol}: healing a hole of {gap.missing_count or 'unknown'} trades")
            outcome = await heal(gap, adapter, rest, url)
            left -= 1
            done.holes_healed += outcome in ("healed", "closed")
            done.holes_empty += outcome == "empty"
            done.holes_unhealable += outcome == "unhealable"
    except (Unavailable, WrongUse) as error:
        say(str(error))
    finally:
        done.holes_left += left
        await rest.close()
