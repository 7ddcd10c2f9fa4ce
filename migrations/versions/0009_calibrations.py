"""A calibration says of which market it is and at which horizon; there is one for each cut."""

from alembic import op

from migrations.ddl import interval

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

_COLUMNS = ("exchange", "symbol", "interval", "horizon")


def upgrade() -> None:
    # No version before this one has written a calibration: there is no row that would lack them.
    op.execute(f"""
        ALTER TABLE calibrations
            ADD COLUMN exchange text NOT NULL,
            ADD COLUMN symbol text NOT NULL,
            ADD COLUMN {interval()},
            ADD COLUMN horizon interval NOT NULL,
            ADD CONSTRAINT calibrations_cut_key UNIQUE (
                strategy_name, config_hash, exchange, symbol, interval, horizon, cutoff_timestamp)""")


def downgrade() -> None:
    # Without their market nobody could use them, and going up again would find rows that lack it.
    op.execute("UPDATE signals SET calibration_id = NULL WHERE calibration_id IS NOT NULL")
    op.execute("DELETE FROM calibrations")
    for name in _COLUMNS:
        op.execute(f"ALTER TABLE calibrations DROP COLUMN {name}")
