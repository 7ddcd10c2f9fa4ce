"""Words of the revisions' DDL: columns with their CHECKs, hypertables.

Revisions that people have run are written in these words, so what is here never changes its
meaning: a new kind of column gets a new name.
"""

from alembic import op


def px(name: str, *, null: bool = False) -> str:
    """A price or size as double precision: above 0, below infinity, not NaN."""
    return _column(name, "double precision", f"{name} > 0 AND {name} < 'Infinity'", null=null)


def amount(name: str, *, null: bool = False) -> str:
    """A finite double precision of 0 or more."""
    return _column(name, "double precision", f"{name} >= 0 AND {name} < 'Infinity'", null=null)


def finite(name: str, *, null: bool = False) -> str:
    """A double precision that is neither NaN nor infinite."""
    check = f"{name} > '-Infinity' AND {name} < 'Infinity'"
    return _column(name, "double precision", check, null=null)


def between(name: str, low: int, high: int, *, null: bool = False) -> str:
    """A double precision within [low, high]."""
    return _column(name, "double precision", f"{name} >= {low} AND {name} <= {high}", null=null)


def money(name: str, *, null: bool = False) -> str:
    """A numeric(28,10) that is not NaN."""
    return _column(name, "numeric(28,10)", f"{name} < 'Infinity'", null=null)


def money_px(name: str, *, null: bool = False) -> str:
    """A price or quantity as numeric(28,10), above 0."""
    return _column(name, "numeric(28,10)", f"{name} > 0 AND {name} < 'Infinity'", null=null)


def exact_px(name: str, *, null: bool = False) -> str:
    """A decimal of any scale, above 0."""
    return _column(name, "numeric", f"{name} > 0 AND {name} < 'Infinity'", null=null)


def count(name: str, *, null: bool = False, default: int | None = None) -> str:
    """A bigint of 0 or more."""
    kind = "bigint" if default is None else f"bigint DEFAULT {default}"
    return _column(name, kind, f"{name} >= 0", null=null)


def one_of(name: str, *values: str, null: bool = False, default: str | None = None) -> str:
    """A text with a closed set of values."""
    kind = "text" if default is None else f"text DEFAULT '{default}'"
    listed = ", ".join(f"'{value}'" for value in values)
    return _column(name, kind, f"{name} IN ({listed})", null=null)


def interval() -> str:
    """The column `interval`: a candle's timeframe."""
    return one_of("interval", "1m", "5m", "15m", "1h", "4h", "1d")


def stream(name: str = "stream") -> str:
    """The column that says which of an instrument's streams is meant."""
    return one_of(name, "trades", "book", "candles")


def _column(name: str, kind: str, check: str, *, null: bool) -> str:
    return f"{name} {kind}{'' if null else ' NOT NULL'} CHECK ({check})"


def hypertable(table: str, chunk: str) -> None:
    """Make `table` a hypertable over `timestamp`, in chunks of `chunk`, without default indexes."""
    op.execute(
        f"SELECT create_hypertable('{table}', by_range('timestamp', INTERVAL '{chunk}'),"
        " create_default_indexes => false)"
    )


def drop(*tables: str) -> None:
    """Drop `tables`, in the order given."""
    for table in tables:
        op.execute(f"DROP TABLE {table}")
