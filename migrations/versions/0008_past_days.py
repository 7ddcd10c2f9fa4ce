"""Days of a table that have left the database, or have a proven copy outside of it."""

from alembic import op

from migrations.ddl import count, drop, one_of

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    tables = ("trades", "orderbook_snapshots", "cvd_snapshots", "candles")
    op.execute(f"""
        CREATE TABLE past_days (
            exchange text NOT NULL,
            symbol text NOT NULL,
            {one_of("table_name", *tables)},
            interval text NOT NULL DEFAULT '',
            day timestamptz NOT NULL,
            {count("row_count")},
            coverage jsonb NOT NULL DEFAULT '[]',
            url text,
            digest text,
            fingerprint jsonb,
            {count("bytes", null=True)},
            revision bigint,
            copied_timestamp timestamptz,
            dropped_timestamp timestamptz,
            PRIMARY KEY (exchange, symbol, table_name, interval, day),
            CONSTRAINT past_days_interval_check CHECK ((interval <> '') = (table_name = 'candles')),
            CONSTRAINT past_days_copy_check CHECK (
                num_nulls(url, digest, fingerprint, bytes, revision, copied_timestamp) IN (0, 6)),
            CONSTRAINT past_days_place_check CHECK (url IS NOT NULL OR dropped_timestamp IS NOT NULL)
        )""")


def downgrade() -> None:
    drop("past_days")
