"""Which instruments a chat watches."""

from alembic import op

from migrations.ddl import drop

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("""
        CREATE TABLE chat_watches (
            chat_id bigint NOT NULL,
            exchange text NOT NULL,
            symbol text NOT NULL,
            created_timestamp timestamptz NOT NULL DEFAULT now(),
            PRIMARY KEY (chat_id, exchange, symbol)
        )""")


def downgrade() -> None:
    drop("chat_watches")
