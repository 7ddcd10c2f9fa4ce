"""The newest revision of an instrument's tape is found at once, however many there were."""

from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("CREATE INDEX tape_revisions_exchange_symbol_id_idx ON tape_revisions (exchange, symbol, id)")


def downgrade() -> None:
    op.execute("DROP INDEX tape_revisions_exchange_symbol_id_idx")
