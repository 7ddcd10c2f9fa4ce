"""/status, /health and /gaps: what is stored, how well it comes, what is missing."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from alerts.telegram.markup import Reply, again, bold, code, paged, safe
from alerts.telegram.views.market import market_name
from alerts.telegram.views.mutes import mute_lines
from alerts.telegram.words import age, duration, number, plural, when
from market.timeframe import MICROSECONDS, from_datetime, to_datetime
from storage import holes, lately, mutes, overview, streams
from storage.metrics import newest_metrics

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from alerts.telegram.asked import Asked
    from storage.holes import Hole
    from storage.metrics import Measured
    from storage.mutes import Mute
    from storage.overview import InstrumentTape
    from storage.streams import StreamRow

METRICS_SECONDS = 25
"""Older metrics are those of a collector that does not run any more."""
_METRICS = (
    "exchange_lag_p50",
    "exchange_lag_p99",
    "commit_lag_p50",
    "commit_lag_p99",
    "trades_per_second",
    "spool_batches",
)
_LAMPS = {"live": "🟢", "stale": "🟡", "healing": "🔵", "down": "🔴"}
MOST_HOURS = 24 * 366
PAGE = 10


def status(asked: Asked) -> Reply:
    """What is stored of each instrument, and what runs."""
    connection = asked.connection
    text = status_text(
        overview.instrument_tapes(connection),
        overview.workers(connection),
        overview.database_bytes(connection),
        lately.alert_counts(connection, asked.now - timedelta(days=1)),
        mutes.muted(connection, from_datetime(asked.now)),
        asked.now,
    )
    return Reply(text, (again(asked.line),))


def status_text(
    tapes: Sequence[InstrumentTape],
    workers: Sequence[str],
    size: int,
    counted: Mapping[str, int],
    silent: Sequence[Mute],
    now: datetime,
) -> str:
    """A block an instrument, then what runs and what waits to be sent."""
    lines: list[str] = []
    for tape in tapes:
        lines.append(f"{bold(tape.symbol)} on {market_name(tape.exchange)}")
        seconds = (now - tape.to_timestamp).total_seconds()
        lines.append(f"{number(tape.last_price)} · {', '.join(map(safe, tape.origins))} · {age(seconds)}")
        holes_open = f" · ⚠ {plural(tape.open_gaps, 'open hole')}" if tape.open_gaps else ""
        lines.append(f"{plural(tape.rows, 'trade')}{holes_open}")
        lines.append("")
    if not tapes:
        lines += ["Nothing on the tape yet: <code>deltatape up</code> collects.", ""]
    running = ", ".join(safe(name.removeprefix("deltatape ")) for name in workers) or "nothing"
    lines.append(f"running: {running}")
    lines.append(f"database: {size / 1e6:,.0f} MB")
    waiting = counted.get("pending", 0) + counted.get("failed", 0)
    sent, dead = counted.get("sent", 0), counted.get("dead", 0)
    lines.append(f"alerts: {sent:,} sent in 24 h, {waiting:,} waiting, {dead:,} dead")
    return "\n".join([*lines, *mute_lines(silent)])


def health(asked: Asked) -> Reply:
    """The streams with their lag, the holes, and how the bot itself is."""
    connection = asked.connection
    found = streams.list_streams(connection)
    labels = [{"exchange": name} for name in sorted({row.exchange for row in found})]
    since = (int(asked.now.timestamp()) - METRICS_SECONDS) * MICROSECONDS
    measured = newest_metrics(connection, "collector", _METRICS, labels, since)
    return Reply(health_text(found, measured, asked.notes, asked.now), (again(asked.line),))


def health_text(
    found: Sequence[StreamRow], measured: Sequence[Measured], notes: Sequence[str], now: datetime
) -> str:
    """First whether all is well, then each stream, then how fast it comes."""
    states = [row.state(now) for row in found]
    bad = sum(state != "live" for state, _ in states)
    open_holes = sum(row.open_gaps for row in found if row.stream == "trades")
    if not found:
        lines = ["Nothing was ever collected here: <code>deltatape up</code> does."]
    elif bad or open_holes:
        said = [plural(bad, "stream is", "streams are") + " not live"] if bad else []
        said += [plural(open_holes, "hole")] if open_holes else []
        lines = [f"⚠ <b>{', '.join(said)}</b>"]
    else:
        lines = [f"🟢 <b>All {plural(len(found), 'stream')} live, no open hole</b>"]
    for row, (state, reason) in zip(found, states, strict=True):
        lines.append(_stream_line(row, state, reason, now))
    lines += [_speed_line(one) for one in measured]
    return "\n".join([*lines, "", *map(safe, notes)])


def _stream_line(row: StreamRow, state: str, reason: str, now: datetime) -> str:
    line = f"{_LAMPS[state]} {safe(row.exchange)} {safe(row.symbol)} {safe(row.stream)}: {state}"
    line += f" {code(reason)}" if reason else ""
    last = row.watermark_timestamp
    line += f", lag {duration((now - last).total_seconds())}" if last else ""
    return line + (f", {plural(row.open_gaps, 'hole')}" if row.open_gaps else "")


def _speed_line(one: Measured) -> str:
    values = one.values
    parts = [f"{values.get('trades_per_second', 0):,.1f} trades/s"]
    for name, label in (("exchange_lag", "from the exchange"), ("commit_lag", "to the database")):
        pair = [values.get(f"{name}_{quantile}") for quantile in ("p50", "p99")]
        if None not in pair:
            parts.append(f"{label} " + "/".join(f"{1000 * (each or 0):,.0f}" for each in pair) + " ms")
    if values.get("spool_batches"):
        parts.append(f"⚠ {values['spool_batches']:,.0f} batches in the spool")
    return f"{safe(one.labels.get('exchange', ''))}: " + ", ".join(parts) + " (p50/p99)"


def gaps(asked: Asked) -> Reply:
    """The holes of the last hours."""
    hours = asked.count(24, MOST_HOURS, "of hours")
    begin = from_datetime(asked.now) - hours * 3600 * MICROSECONDS
    found = holes.list_holes(asked.connection, stream="trades", begin=begin)[::-1]
    page = found[asked.page * PAGE : (asked.page + 1) * PAGE]
    buttons = paged(asked.line, asked.page, has_more=len(found) > (asked.page + 1) * PAGE)
    return Reply(gaps_text(page, found, hours, asked.page), buttons)


def gaps_text(page: Sequence[Hole], found: Sequence[Hole], hours: int, number_of_page: int) -> str:
    """How many there were, and those of this page, the newest first."""
    span = duration(hours * 3600)
    if not found:
        return f"No hole in the trades of the last {span}. <code>deltatape verify</code> proves it."
    open_ones = sum(hole.is_open for hole in found)
    lines = [f"<b>{plural(len(found), 'hole')} in {span}</b>, {open_ones:,} open"]
    if number_of_page:
        lines[0] += f", page {number_of_page + 1}"
    return "\n\n".join([*lines, *map(_hole_block, page)])


def _hole_block(hole: Hole) -> str:
    begin, end = to_datetime(hole.from_timestamp), to_datetime(hole.to_timestamp)
    missing = "" if hole.missing_count is None else f", {plural(hole.missing_count, 'id')} missing"
    filled = "" if hole.healed_count is None else f", {hole.healed_count:,} filled"
    lines = [
        f"{'🔴' if hole.is_open else '⚪'} #{hole.id} {bold(hole.symbol)} on {safe(hole.exchange)}",
        f"{when(begin)}, {duration((end - begin).total_seconds())}{missing}",
        f"{safe(hole.status)}{filled}: {code(hole.cause)}",
    ]
    return "\n".join([*lines, *([code(hole.note)] if hole.note else [])])
