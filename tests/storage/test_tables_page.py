"""docs/tables.md lists every table and column as they are."""

import re
from pathlib import Path

from sqlalchemy import Column
from sqlalchemy.dialects import postgresql

from storage.database import Connection
from storage.tables import metadata

PAGE = (Path(__file__).parents[2] / "docs" / "tables.md").read_text()
SECTIONS = dict(re.findall(r"^### (\w+)\n(.*?)(?=^##|\Z)", PAGE, re.DOTALL | re.MULTILINE))
SHORT = {
    "timestamp with time zone": "timestamptz",
    "double precision": "float8",
    "double precision[]": "float8[]",
    "numeric(28, 10)": "numeric(28,10)",
}


def type_of(column: Column[object]) -> str:
    kind = column.type.compile(postgresql.dialect()).lower()
    return SHORT.get(kind, kind) + ("?" if column.nullable else "")


def listed(section: str) -> list[tuple[str, str]]:
    rows = re.findall(r"^\| (`.*?) \| (\S+) \|", section, re.MULTILINE)
    return [(name, kind) for names, kind in rows for name in re.findall(r"`(\w+)`", names)]


def test_every_column_is_listed_with_its_type() -> None:
    assert SECTIONS.keys() == metadata.tables.keys()
    for name, table in metadata.tables.items():
        assert listed(SECTIONS[name]) == [(column.name, type_of(column)) for column in table.columns], name


def test_keys_are_those_of_the_tables() -> None:
    for name, table in metadata.tables.items():
        (key,) = re.findall(r"Key: (.*)\.\n", SECTIONS[name])
        assert re.findall(r"`(\w+)`", key) == [column.name for column in table.primary_key], name


def test_chunks_are_as_long_as_it_says(connection: Connection) -> None:
    rows = connection.execute(
        "SELECT hypertable_name, extract(days FROM time_interval)::int"
        " FROM timescaledb_information.dimensions WHERE hypertable_schema = 'public'"
    )
    said = re.findall(r"^### (\w+)\n[^#]*?^Chunks of (\d+) days?\.", PAGE, re.MULTILINE)
    assert {(name, int(days)) for name, days in said} == set(rows.fetchall())
