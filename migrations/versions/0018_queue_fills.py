"""A fill may come from a place in a queue."""

from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None

SOURCES = ("trade", "lower_timeframe", "candle", "candle_pessimistic", "next_open", "close", "book")


def upgrade() -> None:
    _allow(*SOURCES, "queue")


def downgrade() -> None:
    op.execute("UPDATE fills SET source = 'trade' WHERE source = 'queue'")
    _allow(*SOURCES)


def _allow(*sources: str) -> None:
    listed = ", ".join(f"'{source}'" for source in sources)
    op.execute("ALTER TABLE fills DROP CONSTRAINT fills_source_check")
    op.execute(f"ALTER TABLE fills ADD CONSTRAINT fills_source_check CHECK (source IN ({listed}))")
