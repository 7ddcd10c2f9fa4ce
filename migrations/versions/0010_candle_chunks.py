"""Chunks of candles hold four weeks: a year of them takes the planner a quarter of the time."""

from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # Chunks that are there stay as they are. A week of candles is a few megabytes, and each question about
    # the newest one looks at every chunk when it is planned.
    op.execute("SELECT set_chunk_time_interval('candles', INTERVAL '28 days')")


def downgrade() -> None:
    op.execute("SELECT set_chunk_time_interval('candles', INTERVAL '7 days')")
