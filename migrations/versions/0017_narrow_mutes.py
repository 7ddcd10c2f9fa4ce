"""A mute may be of less than a channel: of a kind of alert, an exchange, an instrument, a strategy."""

from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None

SUBJECT = ("alert_type", "exchange", "symbol", "strategy")


def upgrade() -> None:
    for name in SUBJECT:
        op.execute(f"ALTER TABLE alert_mutes ADD COLUMN {name} text NOT NULL DEFAULT ''")
    op.execute("ALTER TABLE alert_mutes DROP CONSTRAINT alert_mutes_pkey")
    op.execute(f"ALTER TABLE alert_mutes ADD PRIMARY KEY (channel, {', '.join(SUBJECT)})")


def downgrade() -> None:
    op.execute("DELETE FROM alert_mutes WHERE alert_type || exchange || symbol || strategy <> ''")
    op.execute("ALTER TABLE alert_mutes DROP CONSTRAINT alert_mutes_pkey")
    op.execute("ALTER TABLE alert_mutes ADD PRIMARY KEY (channel)")
    for name in SUBJECT:
        op.execute(f"ALTER TABLE alert_mutes DROP COLUMN {name}")
