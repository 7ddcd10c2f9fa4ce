"""What becomes of signals is written behind them: up to which candle, their state says."""

from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE signal_state ADD COLUMN settled_watermark timestamptz")
    # Before this version it was written in the transaction that saw the candle.
    op.execute("UPDATE signal_state SET settled_watermark = candle_watermark")
    op.execute("ALTER TABLE signal_state ALTER COLUMN settled_watermark SET NOT NULL")


def downgrade() -> None:
    op.execute("ALTER TABLE signal_state DROP COLUMN settled_watermark")
