"""What funding brought a position stands beside its fees, and on the fill that ended it."""

from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

_TABLES = ("positions", "fills")


def upgrade() -> None:
    # No version before this one has stored a run with funding: 0 is true of every row.
    for table in _TABLES:
        op.execute(
            f"ALTER TABLE {table} ADD COLUMN funding numeric(28,10) NOT NULL DEFAULT '0'"
            f" CONSTRAINT {table}_funding_check CHECK (funding < 'Infinity')"
        )
    # The columns of a view are those that its table had when it was made.
    op.execute("CREATE OR REPLACE VIEW live_positions AS SELECT * FROM positions WHERE NOT is_backtest")
    op.execute("CREATE OR REPLACE VIEW backtest_positions AS SELECT * FROM positions WHERE is_backtest")


def downgrade() -> None:
    op.execute("DROP VIEW live_positions")
    op.execute("DROP VIEW backtest_positions")
    for table in _TABLES:
        op.execute(f"ALTER TABLE {table} DROP COLUMN funding")
    op.execute("CREATE VIEW live_positions AS SELECT * FROM positions WHERE NOT is_backtest")
    op.execute("CREATE VIEW backtest_positions AS SELECT * FROM positions WHERE is_backtest")
