"""Channels of alerts that are silenced for a while; what waits on a channel is found in its order."""

from alembic import op

from migrations.ddl import drop

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("""
        CREATE TABLE alert_mutes (
            channel text PRIMARY KEY,
            until_timestamp timestamptz NOT NULL,
            created_timestamp timestamptz NOT NULL DEFAULT now()
        )""")
    op.execute(
        "CREATE INDEX alerts_channel_id_idx ON alerts (channel, id) WHERE status IN ('pending', 'failed')"
    )
    op.execute(
        "CREATE INDEX alerts_channel_sent_timestamp_idx ON alerts (channel, sent_timestamp)"
        " WHERE sent_timestamp IS NOT NULL"
    )


def downgrade() -> None:
    op.execute("DROP INDEX alerts_channel_id_idx")
    op.execute("DROP INDEX alerts_channel_sent_timestamp_idx")
    drop("alert_mutes")
