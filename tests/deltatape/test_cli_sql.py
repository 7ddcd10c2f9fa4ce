import csv
import io
import json
from collections.abc import Callable
from subprocess import CompletedProcess

import pytest
from typer.testing import CliRunner

from deltatape.cli.sql import app
from market.errors import WrongUse
from storage.database import Connection

Cli = Callable[..., CompletedProcess[str]]

KINDS = """
    SELECT 1 AS int, 0.1::float8 + 0.2 AS float, 12345678901234567.0000000001::numeric AS exact,
        true AS yes, NULL AS nothing, 'é"<[b]' AS text, ARRAY['a', NULL] AS list,
        '{"k": [1, null]}'::jsonb AS document, '2026-03-01T12:00:00.5Z'::timestamptz AS time,
        '2026-03-01'::date AS day, interval '90 seconds' AS span, '\\x00ff'::bytea AS raw,
        '00000000-0000-0000-0000-00000000000a'::uuid AS id, int4range(1, 5) AS range
"""
OUR_LINE = "error: "


def ok(done: CompletedProcess[str]) -> str:
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def refused(done: CompletedProcess[str], code: int, says: str) -> None:
    assert done.returncode == code, done.stderr
    assert done.stdout == ""
    assert says in done.stderr
    assert done.stderr.startswith(OUR_LINE)
    assert len(done.stderr.splitlines()) == 1


def count(connection: Connection) -> int:
    row = connection.execute("SELECT count(*) FROM tape_revisions").fetchone()
    connection.rollback()
    assert row
    return int(row[0])


@pytest.fixture
def refusal(database: str) -> Callable[[str], str]:
    """Runs a statement in this process, where it must be refused; gives the line that says why."""

    def run(query: str) -> str:
        result = CliRunner().invoke(app, [query], env={"DELTATAPE_DATABASE_URL": database})
        assert isinstance(result.exception, WrongUse), result.output
        assert result.output == ""
        return str(result.exception)

    return run


INSERT = """
    INSERT INTO tape_revisions (exchange, symbol, from_timestamp, to_timestamp, cause)
    VALUES ('x', 'y', now(), now(), 'repair')
"""


def test_json_is_a_list_of_objects(cli: Cli) -> None:
    out = ok(cli("sql", KINDS, "--format", "json"))
    assert '"exact":12345678901234567.0000000001' in out
    assert json.loads(out) == [
        {
            "int": 1,
            "float": 0.30000000000000004,
            "exact": 12345678901234567.0000000001,
            "yes": True,
            "nothing": None,
            "text": 'é"<[b]',
            "list": ["a", None],
            "document": {"k": [1, None]},
            "time": "2026-03-01T12:00:00.500000Z",
            "day": "2026-03-01",
            "span": "0:01:30",
            "raw": "\\x00ff",
            "id": "00000000-0000-0000-0000-00000000000a",
            "range": "[1, 5)",
        }
    ]


def test_csv_has_a_header_and_the_same_values(cli: Cli) -> None:
    (row,) = csv.DictReader(io.StringIO(ok(cli("sql", KINDS, "--format", "csv"))))
    assert row == {
        "int": "1",
        "float": "0.30000000000000004",
        "exact": "12345678901234567.0000000001",
        "yes": "true",
        "nothing": "",
        "text": 'é"<[b]',
        "list": '["a", null]',
        "document": '{"k": [1, null]}',
        "time": "2026-03-01T12:00:00.500000Z",
        "day": "2026-03-01",
        "span": "0:01:30",
        "raw": "\\x00ff",
        "id": "00000000-0000-0000-0000-00000000000a",
        "range": "[1, 5)",
    }


def test_a_table_is_the_default(cli: Cli) -> None:
    out = ok(cli("sql", "SELECT 'BTC/USDT' AS symbol, 1.50::numeric AS price, '[b]x' AS odd"))
    for text in ("symbol", "BTC/USDT", "1.50", "[b]x"):
        assert text in out


def test_rows_that_are_too_wide_are_shown_column_by_column(cli: Cli) -> None:
    names = [f"column_{number}" for number in range(20)]
    query = f"SELECT {', '.join(f'n AS {name}' for name in names)} FROM generate_series(7, 8) AS n"
    lines = ok(cli("sql", query)).splitlines()
    assert [line.split() for line in lines[1:21]] == [[name, "7"] for name in names]
    assert [lines[0].split()[:2], lines[21].split()[:2]] == [["row", "1"], ["row", "2"]]
    assert len(lines) == 42
    assert "row 1" not in ok(cli("sql", "SELECT repeat('wide ', 100) AS text"))
    assert ok(cli("sql", f"{query} WHERE n > 8")) == "no rows\n"


def test_no_rows(cli: Cli) -> None:
    query = "SELECT exchange FROM trades"
    assert ok(cli("sql", query, "--format", "json")) == "[]\n"
    assert ok(cli("sql", query, "--format", "csv")) == "exchange\n"
    assert ok(cli("sql", query)) == "no rows\n"


def test_a_percent_sign_is_a_percent_sign(cli: Cli) -> None:
    out = ok(cli("sql", "SELECT 7 % 4 AS rest, 'a' LIKE '%' AS fits", "--format", "json"))
    assert json.loads(out) == [{"rest": 3, "fits": True}]


@pytest.mark.parametrize(
    "query",
    [
        INSERT,
        "DELETE FROM tape_revisions",
        "CREATE TABLE mine (n int)",
        "TRUNCATE tape_revisions",
        f"WITH new AS ({INSERT} RETURNING id) SELECT * FROM new",
        f"EXPLAIN ANALYZE {INSERT}",
        f"DO $$ BEGIN {INSERT}; END $$",
        "SELECT nextval('tape_revisions_id_seq')",
    ],
)
def test_nothing_writes_without_being_allowed_to(cli: Cli, connection: Connection, query: str) -> None:
    refused(cli("sql", query), 2, "add --write")
    assert count(connection) == 0


@pytest.mark.parametrize(
    "query",
    [
        f"COMMIT; {INSERT}",
        f"SET TRANSACTION READ WRITE; {INSERT}",
        "SET TRANSACTION READ WRITE",
        f"DO $$ BEGIN SET TRANSACTION READ WRITE; {INSERT}; END $$",
        f"DO $$ BEGIN PERFORM set_config('transaction_read_only', 'off', true); {INSERT}; END $$",
        f"DO $$ BEGIN COMMIT; {INSERT}; END $$",
    ],
)
def test_read_only_cannot_be_talked_out_of(
    refusal: Callable[[str], str], connection: Connection, query: str
) -> None:
    assert "\n" not in refusal(query)
    assert count(connection) == 0


def test_a_refused_write_is_wrong_use(cli: Cli) -> None:
    refused(cli("sql", INSERT), 2, "add --write")


def test_write_writes(cli: Cli, connection: Connection) -> None:
    assert ok(cli("sql", INSERT, "--write")) == "INSERT 0 1\n"
    out = ok(cli("sql", f"{INSERT} RETURNING cause", "--write", "--format", "json"))
    assert json.loads(out) == [{"cause": "repair"}]
    assert ok(cli("sql", "DELETE FROM tape_revisions", "--write", "--format", "json")) == "[]\n"
    assert count(connection) == 0


def test_a_failed_write_leaves_nothing(cli: Cli, connection: Connection) -> None:
    refused(cli("sql", f"{INSERT}; {INSERT}", "--write"), 2, "multiple commands")
    assert count(connection) == 0


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("SELEC 1", 'syntax error at or near "SELEC"'),
        ("SELECT * FROM nowhere", 'relation "nowhere" does not exist'),
        ("SELECT cvds FROM cvd_snapshots", "does not exist"),
        ("SELECT 1 / 0", "division by zero"),
        ("", "no SQL statement given"),
        ("-- nothing", "no SQL statement given"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(refusal: Callable[[str], str], query: str, says: str) -> None:
    line = refusal(query)
    assert says in line
    assert "\n" not in line


def test_a_statement_may_begin_with_a_comment(cli: Cli) -> None:
    out = ok(cli("sql", "-- latest = newest\nSELECT 1 AS one;\n", "--format", "json"))
    assert json.loads(out) == [{"one": 1}]


def test_a_misspelt_option_is_wrong_use(cli: Cli) -> None:
    assert cli("sql", "SELECT 1", "--wirte").returncode == 2


def test_objects_cannot_hold_two_columns_of_one_name(cli: Cli) -> None:
    refused(cli("sql", "SELECT 1, 2", "--format", "json"), 2, "name them apart with AS")
    assert ok(cli("sql", "SELECT 1 AS a, 2 AS a", "--format", "csv")) == "a,a\n1,2\n"


def test_an_unknown_format_is_wrong_use(cli: Cli) -> None:
    assert cli("sql", "SELECT 1", "--format", "xml").returncode == 2


def test_no_database_is_missing(cli: Cli) -> None:
    nowhere = {"DELTATAPE_DATABASE_URL": "postgresql://127.0.0.1:1/none"}
    refused(cli("sql", "SELECT 1", env=nowhere), 3, "cannot connect to database none")


@pytest.mark.parametrize("query", ["COPY (SELECT 1) TO STDOUT", "COPY trades FROM STDIN"])
def test_a_copy_is_refused_in_one_line(cli: Cli, query: str) -> None:
    refused(cli("sql", "--write", query), 2, "COPY is not for this")


def test_a_database_without_tables_is_missing(cli: Cli, empty_database: str) -> None:
    env = {"DELTATAPE_DATABASE_URL": empty_database}
    for verb in (("sql", "SELECT * FROM trades"), ("status",)):
        refused(cli(*verb, env=env), 3, "deltatape db upgrade")


def test_help_has_an_example(cli: Cli) -> None:
    assert "Example: deltatape sql" in ok(cli("sql", "--help"))
