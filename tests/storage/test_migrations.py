import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from psycopg import sql

import migrations
from market.errors import Unavailable, WrongUse
from storage.database import Connection, connect, engine
from storage.tables import metadata

EXTENSIONS = ("CREATE EXTENSION timescaledb", "CREATE EXTENSION btree_gist")

# Everything that is in a schema of ours or of TimescaleDB's data and belongs to no extension.
OBJECTS = """
    SELECT classid::regclass::text, objid FROM (
        SELECT 'pg_class'::regclass AS classid, oid AS objid, relnamespace AS place FROM pg_class
        UNION ALL SELECT 'pg_type'::regclass, oid, typnamespace FROM pg_type
        UNION ALL SELECT 'pg_proc'::regclass, oid, pronamespace FROM pg_proc
        UNION ALL SELECT 'pg_constraint'::regclass, oid, connamespace FROM pg_constraint
    ) AS objects
    WHERE place::regnamespace::text IN ('public', '_timescaledb_internal')
        AND NOT EXISTS (
            SELECT FROM pg_depend
            WHERE pg_depend.classid = objects.classid AND pg_depend.objid = objects.objid
                AND deptype = 'e')
    UNION ALL SELECT 'hypertable', id FROM _timescaledb_catalog.hypertable
    UNION ALL SELECT 'chunk', id FROM _timescaledb_catalog.chunk
    UNION ALL SELECT 'trigger', oid FROM pg_trigger
"""
COLUMNS = """
    SELECT table_name, ordinal_position, column_name, data_type, udt_name, numeric_precision,
        numeric_scale, is_nullable, column_default, is_identity, identity_generation,
        is_generated, generation_expression
    FROM information_schema.columns WHERE table_schema = 'public' AND table_name = ANY (%s)
"""
CONSTRAINTS = """
    SELECT conrelid::regclass::text, conname, contype::text, pg_get_constraintdef(oid)
    FROM pg_constraint WHERE conrelid::regclass::text = ANY (%s)
"""
INDEXES = "SELECT indexname, indexdef FROM pg_indexes WHERE tablename = ANY (%s)"


def objects(url: str) -> set[tuple[object, ...]]:
    with connect(url) as connection:
        return set(connection.execute(OBJECTS).fetchall())


@pytest.fixture
def modelled(empty_database: str) -> str:
    """A database made by the models alone."""
    with connect(empty_database) as connection:
        for statement in EXTENSIONS:
            connection.execute(statement)
    with engine(empty_database).begin() as connection:
        metadata.create_all(connection)
    return empty_database


def test_up_and_down_leaves_nothing_but_the_extensions(empty_database: str) -> None:
    with connect(empty_database) as connection:
        for statement in EXTENSIONS:
            connection.execute(statement)
    before = objects(empty_database)
    migrations.upgrade(empty_database)
    with connect(empty_database) as connection:
        connection.execute("INSERT INTO funding_rates VALUES (now(), 'simulated', 'BTC/USDT:USDT', 0.0001)")
    assert len(objects(empty_database)) > len(before) + 100
    migrations.downgrade(empty_database, "base")
    assert objects(empty_database) == before
    assert migrations.current(empty_database) is None


def test_each_revision_goes_down_and_up_again(database: str) -> None:
    names = migrations.revisions()
    assert names == sorted(names)
    for below in ["base", *names[:-1]][::-1]:
        migrations.downgrade(database, below)
        assert migrations.current(database) == (None if below == "base" else below)
    for name in names:
        migrations.upgrade(database, name)
        assert migrations.current(database) == name


def test_alembic_finds_no_difference_to_the_models(database: str) -> None:
    options = {"compare_type": True, "compare_server_default": True}
    with engine(database).connect() as connection:
        context = MigrationContext.configure(connection, opts=options)
        assert compare_metadata(context, metadata) == []


@pytest.mark.parametrize("query", [COLUMNS, CONSTRAINTS, INDEXES])
def test_the_catalog_is_the_one_that_the_models_make(
    connection: Connection, modelled: str, query: str
) -> None:
    tables = list(metadata.tables)
    migrated = connection.execute(query, (tables,)).fetchall()
    with connect(modelled) as other:
        expected = other.execute(query, (tables,)).fetchall()
    assert set(migrated) == set(expected)
    assert len(migrated) == len(expected) > 20


def test_hypertables_and_their_chunks(connection: Connection) -> None:
    rows = connection.execute("""
        SELECT hypertable_name, column_name, EXTRACT(day FROM time_interval)::int
        FROM timescaledb_information.dimensions
    """)
    assert {(name, column): days for name, column, days in rows} == {
        ("trades", "timestamp"): 1,
        ("orderbook_snapshots", "timestamp"): 7,
        ("candles", "timestamp"): 28,
        ("cvd_snapshots", "timestamp"): 7,
        ("funding_rates", "timestamp"): 30,
        ("indicators", "timestamp"): 7,
        ("system_metrics", "timestamp"): 7,
    }


def test_hypertables_have_the_named_indexes_only(connection: Connection) -> None:
    rows = connection.execute("""
        SELECT indexname FROM pg_indexes JOIN timescaledb_information.hypertables
            ON schemaname = hypertable_schema AND tablename = hypertable_name
    """)
    assert {name for (name,) in rows} == {
        "trades_pkey",
        "orderbook_snapshots_pkey",
        "orderbook_snapshots_exchange_timestamp_idx",
        "candles_pkey",
        "candles_exchange_interval_timestamp_idx",
        "cvd_snapshots_pkey",
        "cvd_snapshots_exchange_timestamp_idx",
        "funding_rates_pkey",
        "indicators_pkey",
        "system_metrics_pkey",
    }


def test_nothing_of_the_community_edition_is_used(connection: Connection) -> None:
    for view in ("continuous_aggregates", "compression_settings"):
        statement = sql.SQL("SELECT FROM timescaledb_information.{}").format(sql.Identifier(view))
        assert connection.execute(statement).fetchall() == []


def test_the_database_is_in_utc(empty_database: str) -> None:
    name = re.search(r"/(test_\w+)", empty_database)
    assert name
    with connect(empty_database, autocommit=True) as connection:
        connection.execute(
            sql.SQL("ALTER DATABASE {} SET timezone = 'Asia/Tokyo'").format(sql.Identifier(name[1]))
        )
    migrations.upgrade(empty_database)
    with connect(empty_database) as connection:
        row = connection.execute("""
            SELECT setconfig FROM pg_db_role_setting JOIN pg_database ON pg_database.oid = setdatabase
            WHERE datname = current_database()
        """).fetchone()
    assert row == (["TimeZone=UTC"],)


def test_an_upgrade_of_what_is_up_to_date_changes_nothing(database: str) -> None:
    before = objects(database)
    migrations.upgrade(database)
    assert objects(database) == before


@pytest.mark.parametrize("move", [migrations.upgrade, migrations.downgrade])
def test_an_unknown_revision_is_wrong_use(database: str, move: Callable[[str, str], None]) -> None:
    with pytest.raises(WrongUse, match="no schema revision '9999': use one of base, 0001"):
        move(database, "9999")


def test_up_does_not_go_down_nor_down_up(database: str) -> None:
    with pytest.raises(WrongUse, match="deltatape db downgrade"):
        migrations.upgrade(database, "0002")
    migrations.downgrade(database, "0001")
    with pytest.raises(WrongUse, match="deltatape db upgrade"):
        migrations.downgrade(database, "0002")


def test_a_schema_from_the_future_is_left_alone(database: str) -> None:
    with connect(database) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    for move in (lambda: migrations.upgrade(database), lambda: migrations.downgrade(database, "base")):
        with pytest.raises(Unavailable, match="update Deltatape"):
            move()


def test_tables_of_someone_else_are_left_alone(empty_database: str) -> None:
    with connect(empty_database) as connection:
        connection.execute("CREATE TABLE candles (mine int)")
    with pytest.raises(Unavailable, match='relation "candles" already exists and is not ours'):
        migrations.upgrade(empty_database)
    assert migrations.current(empty_database) is None
    with connect(empty_database) as connection:
        assert connection.execute("SELECT to_regclass('trades')").fetchone() == (None,)


def test_no_server_is_unavailable() -> None:
    with pytest.raises(Unavailable, match="cannot connect"):
        migrations.upgrade("postgresql://127.0.0.1:1/none")


def as_user(url: str, name: str) -> str:
    return url.replace("postgresql://deltatape@", f"postgresql://{name}@")


def test_a_server_without_timescaledb_is_unavailable(
    empty_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The tests' server has it; this asks it for one that it has not, in the same way.
    monkeypatch.setattr(migrations, "_EXTENSIONS", ("no_such_extension",))
    with pytest.raises(Unavailable, match="use a server with TimescaleDB, such as: docker compose"):
        migrations.upgrade(empty_database)


@pytest.fixture
def stranger(server_url: str) -> Iterator[str]:
    """A role that owns nothing."""
    name = sql.Identifier(f"stranger_{uuid4().hex[:8]}")
    with connect(as_user(server_url, "postgres"), autocommit=True) as superuser:
        superuser.execute(sql.SQL("CREATE ROLE {} LOGIN").format(name))
        yield name.as_string().strip('"')
        superuser.execute(sql.SQL("DROP ROLE {}").format(name))


def test_who_may_not_is_told_whom_to_ask(empty_database: str, stranger: str) -> None:
    with pytest.raises(Unavailable, match="connect as the owner of the database"):
        migrations.upgrade(as_user(empty_database, stranger))


def test_the_extensions_may_be_someone_elses(empty_database: str) -> None:
    with connect(as_user(empty_database, "postgres")) as superuser:
        for statement in EXTENSIONS:
            superuser.execute(statement)
    migrations.upgrade(empty_database)
    assert migrations.current(empty_database) == migrations.head()


def test_two_upgrades_at_once_make_one_schema(empty_database: str) -> None:
    with ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(migrations.upgrade, empty_database) for _ in range(2)]:
            done.result()
    assert migrations.current(empty_database) == migrations.head()
