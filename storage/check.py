"""Integrity of the whole database: rules in SQL, each of which lists the rows that break it.

What `deltatape verify` proves (that the tape is whole, and every sum right) is not computed again: here rows
are held against one another, and against what the tables promise. Market data is looked at a week at a time,
so that each question touches the chunks of one week; all else is small and is looked at as a whole. Every
rule is one statement, and so sees one state, whoever writes meanwhile. Nothing is written.
"""

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime

from msgspec import Struct

from market.timeframe import DAY, from_datetime, to_datetime
from storage.check_ledger import LEDGER
from storage.check_market import MARKET
from storage.check_money import MONEY
from storage.check_rule import EXAMPLES, Rule, ask
from storage.check_schema import missing_constraints, references
from storage.database import Connection

USUAL_DAYS = 7
"""Days of the tape, up to its newest, that are looked at where nothing else is asked for."""
SAMPLE = 61
"""One book snapshot in so many has its levels looked at; by 61 the turn comes to every second of a minute."""
WEEK = 7 * DAY
_EVER = (0, 4_102_444_800_000_000)


class Broken(Struct, frozen=True):
    """A rule that does not hold: how many rows break it, the first of them, and what to do."""

    rule: str
    count: int
    examples: list[str]
    fix: str


class Checked(Struct, frozen=True):
    """What was looked at, [begin, end) of the tape in microseconds UTC, and everything that is wrong."""

    begin: int | None
    end: int | None
    rules: int
    broken: list[Broken]


def check(
    connection: Connection,
    begin: int | None = None,
    end: int | None = None,
    *,
    full: bool = False,
    progress: Callable[[int, int, str], None] = lambda done, total, name: None,
) -> Checked:
    """Hold every row against the rules.

    Args:
        connection: idle; a statement at a time is run on it.
        begin: microseconds UTC: market data of the UTC day that holds it, and later. None: of the last
            `USUAL_DAYS` days of the tape.
        end: microseconds UTC, exclusive.
        full: market data of every day (unless `begin` says otherwise), and the levels of every snapshot.
        progress: gets how many steps are done, of how many, and the name of the next.
    """
    first, last = _span(connection, begin, end, full=full)
    weeks = [] if first is None else list(_weeks(connection, first, last))
    whole: Sequence[Rule] = (*LEDGER, *MONEY, *references())
    found: dict[str, Broken] = {}
    asked: list[tuple[str, dict[str, object], Rule]] = [
        *(("the ledger, signals and backtests", {}, rule) for rule in whole),
        *(
            (f"the tape from {week[0]:%Y-%m-%d}", _scope(week, full), rule)
            for week in weeks
            for rule in MARKET
        ),
    ]
    for done, (name, scope, rule) in enumerate(asked):
        progress(done, len(asked), name)
        _add(found, rule, *ask(connection, rule, scope))
        connection.rollback()
    schema = missing_constraints(connection)
    connection.rollback()
    if schema:
        fix = "a table was changed by hand: move its rows into a fresh database (docs/backup.md)"
        found["constraints"] = Broken("constraints are missing", len(schema), schema[:EXAMPLES], fix)
    rules = 1 + len(whole) + len(MARKET)
    is_empty = not weeks
    return Checked(None if is_empty else first, None if is_empty else last, rules, list(found.values()))


def _span(
    connection: Connection, begin: int | None, end: int | None, *, full: bool
) -> tuple[int | None, int]:
    """The days of the tape that are meant; None where it holds nothing."""
    row = connection.execute(
        "SELECT (SELECT min(timestamp) FROM candles), (SELECT max(timestamp) FROM candles),"
        " (SELECT min(from_timestamp) FROM stream_coverage), (SELECT max(to_timestamp) FROM stream_coverage)"
    ).fetchone()
    times = [from_datetime(at) for at in row or () if at is not None]
    if not times:
        return None, _EVER[1]
    oldest, newest = min(times), max(times)
    if begin is None:
        begin = oldest if full else newest - (USUAL_DAYS - 1) * DAY
    after = newest - newest % DAY + DAY
    first = max(begin, oldest)
    return first - first % DAY, after if end is None else min(end, after)


def _weeks(connection: Connection, first: int, last: int) -> Iterator[tuple[datetime, datetime]]:
    """Seven days each, those without any candle or coverage left out: a tape may have years between."""
    for begin in range(first, last, WEEK):
        week = to_datetime(begin), to_datetime(min(begin + WEEK, last))
        row = connection.execute(
            """
            SELECT EXISTS (SELECT FROM candles WHERE timestamp >= %(from)s AND timestamp < %(to)s)
                OR EXISTS (
                    SELECT FROM stream_coverage
                    WHERE to_timestamp >= %(from)s AND from_timestamp < %(to)s)
            """,
            {"from": week[0], "to": week[1]},
        ).fetchone()
        if row and row[0]:
            yield week


def _scope(week: tuple[datetime, datetime], full: bool) -> dict[str, object]:
    return {"from": week[0], "to": week[1], "sample": 1 if full else SAMPLE}


def _add(found: dict[str, Broken], rule: Rule, count: int, examples: list[str]) -> None:
    if not count:
        return
    before = found.get(rule.name)
    if before is not None:
        count, examples = before.count + count, (before.examples + examples)[:EXAMPLES]
    found[rule.name] = Broken(rule.name, count, examples, rule.fix)
