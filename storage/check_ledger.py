"""Rules of the ledger, of signals and of alerts: small tables, looked at as a whole."""

from psycopg import sql

from storage.check_rule import Rule

_REPAIR = "deltatape repair"
_BY_HAND = "correct or delete those rows: deltatape sql --write"
_UNKNOWN = (
    "deltatape collect, backfill or import writes the instrument; else delete the rows: deltatape sql --write"
)

_NAMED_BY = (
    "stream_state",
    "stream_coverage",
    "stream_gaps",
    "tape_revisions",
    "instrument_changes",
    "signals",
    "signal_state",
    "positions",
    "fills",
)


def _unknown(table: str) -> Rule:
    query = sql.SQL("""
        SELECT format('%%s %%s', exchange, symbol) AS example
        FROM (SELECT DISTINCT exchange, symbol FROM {}) AS named
        WHERE NOT EXISTS (
            SELECT FROM instruments AS known
            WHERE known.exchange = named.exchange AND known.symbol = named.symbol)
    """).format(sql.Identifier(table))
    return Rule(f"{table} name instruments that are not there", query, _UNKNOWN)


LEDGER = (
    *map(_unknown, _NAMED_BY),
    Rule(
        "spans of coverage overlap",
        sql.SQL("""
        SELECT format('%%s %%s %%s from %%s', exchange, symbol, stream, to_timestamp) AS example FROM (
            SELECT exchange, symbol, stream, from_timestamp,
                lag(to_timestamp) OVER (PARTITION BY exchange, symbol, stream ORDER BY from_timestamp)
                    AS to_timestamp
            FROM stream_coverage) AS span
        WHERE to_timestamp > from_timestamp"""),
        _BY_HAND,
    ),
    Rule(
        "an open hole lies inside coverage",
        sql.SQL("""
        SELECT format('hole %%s (%%s %%s, %%s)', hole.id, hole.exchange, hole.symbol, hole.status) AS example
        FROM stream_gaps AS hole
        WHERE hole.status IN ('suspected', 'confirmed') AND EXISTS (
            SELECT FROM stream_coverage AS span
            WHERE span.exchange = hole.exchange AND span.symbol = hole.symbol
                AND span.stream = hole.stream
                AND greatest(span.from_timestamp, hole.from_timestamp)
                    < least(span.to_timestamp, hole.to_timestamp))"""),
        _REPAIR,
    ),
    Rule(
        "a healed hole does not say when it was healed",
        sql.SQL("""
        SELECT format('hole %%s (%%s %%s)', id, exchange, symbol) AS example
        FROM stream_gaps WHERE status = 'healed' AND healed_timestamp IS NULL"""),
        _BY_HAND,
    ),
    Rule(
        "a revision of a signal has no revision before it",
        sql.SQL("""
        SELECT format('signal %%s, revision %%s', id, revision) AS example FROM signals AS later
        WHERE revision > 0 AND NOT EXISTS (
            SELECT FROM signals AS earlier
            WHERE earlier.strategy_name = later.strategy_name AND earlier.config_hash = later.config_hash
                AND earlier.exchange = later.exchange AND earlier.symbol = later.symbol
                AND earlier.interval = later.interval AND earlier.timestamp = later.timestamp
                AND earlier.revision = later.revision - 1)"""),
        "deltatape signals compute writes them anew, once these are deleted: deltatape sql --write",
    ),
    Rule(
        "an alert was sent at no time",
        sql.SQL("""
        SELECT format('alert %%s', id) AS example
        FROM alerts WHERE (status = 'sent') <> (sent_timestamp IS NOT NULL)"""),
        _BY_HAND,
    ),
)
"""Every rule of them."""
