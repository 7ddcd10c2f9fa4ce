"""The collectors: who writes, who has stopped, and what they left."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

from deltatape.cli.output import age
from deltatape.doctor.finding import Finding, State
from storage import streams
from storage.database import Connection

FROZEN = timedelta(seconds=30)
OLD_HOLE = timedelta(days=1)
RECENT = timedelta(days=1)


def check(connection: Connection, home: Path) -> Iterator[Finding]:
    """What the tables and the spool say of the collectors."""
    now = streams.server_time(connection)
    found = streams.list_streams(connection)
    yield _locks(connection, now)
    yield _heartbeats(found, now)
    yield _spool(home, {row.exchange for row in found if row.status != "down" and not row.has_stopped(now)})
    yield _rejected(connection, now)
    yield _holes(connection, now)


def _locks(connection: Connection, now: datetime) -> Finding:
    holders = streams.lock_holders(connection)
    stale = [one for one in holders if now - one.updated_timestamp > FROZEN]
    if not stale:
        return Finding("locks held", State.OK, f"{len(holders)} instruments are written")
    pids = sorted({one.pid for one in stale})
    text = ", ".join(f"{one.exchange} {one.symbol} by a silent session {one.pid}" for one in stale[:3])
    ends = "; ".join(f"SELECT pg_terminate_backend({pid})" for pid in pids)
    return Finding("locks held", State.WARNING, text, f'deltatape db psql -c "{ends}"')


def _heartbeats(found: list[streams.StreamRow], now: datetime) -> Finding:
    stopped = [row for row in found if row.has_stopped(now)]
    if not stopped:
        running = sum(row.status != "down" for row in found)
        return Finding("heartbeats", State.OK, f"{running} of {len(found)} streams have a collector")
    text = ", ".join(
        f"{row.exchange} {row.symbol} for {age(row.silence(now).total_seconds()).removesuffix(' (stale)')}"
        for row in stopped[:3]
    )
    more = f" and {len(stopped) - 3} more" if len(stopped) > 3 else ""
    fix = "start its collector again: deltatape up, or deltatape collect"
    return Finding("heartbeats", State.WARNING, f"none from {text}{more}", fix)


def _spool(home: Path, running: set[str]) -> Finding:
    sizes: dict[str, int] = {}
    for path in (home / "spool").glob("*/**/*"):
        if path.is_file() and path.suffix != ".lock":
            exchange = path.relative_to(home / "spool").parts[0]
            sizes[exchange] = sizes.get(exchange, 0) + path.stat().st_size
    waiting = {exchange: size for exchange, size in sizes.items() if size}
    if not waiting:
        return Finding("spool", State.OK, "empty")
    text = ", ".join(f"{size / 1e6:,.1f} MB of {exchange}" for exchange, size in sorted(waiting.items()))
    left = sorted(waiting.keys() - running)
    if left:
        fix = f"start a collector of {', '.join(left)}: it stores them first"
        return Finding("spool", State.WARNING, f"{text} wait to be stored", fix)
    fix = "its collector is storing them; if they grow, the database is too slow"
    return Finding("spool", State.WARNING, f"{text} wait to be stored", fix)


def _rejected(connection: Connection, now: datetime) -> Finding:
    row = connection.execute(
        "SELECT count(*), mode() WITHIN GROUP (ORDER BY exchange || ': ' || reason)"
        " FROM rejected_messages WHERE timestamp > %s",
        [now - RECENT],
    ).fetchone()
    count, reason = row or (0, None)
    if not count:
        return Finding("rejected", State.OK, "no message was refused in the last day")
    fix = 'deltatape sql "SELECT * FROM rejected_messages ORDER BY id DESC LIMIT 5"'
    return Finding("rejected", State.WARNING, f"{count:,} messages in the last day, mostly {reason}", fix)


def _holes(connection: Connection, now: datetime) -> Finding:
    row = connection.execute(
        "SELECT count(*), min(detected_timestamp) FROM stream_gaps"
        " WHERE stream = 'trades' AND status IN ('suspected', 'confirmed') AND detected_timestamp < %s",
        [now - OLD_HOLE],
    ).fetchone()
    count, first = row or (0, None)
    if not count:
        return Finding("holes", State.OK, "none has been open for a day")
    text = f"{count:,} are open for more than a day, the first since {first:%Y-%m-%d}"
    return Finding("holes", State.WARNING, text, "deltatape repair")
