"""Remote sessions with their notes, and the keys of boxes that sign grants."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "remote_sessions",
        sa.Column("id", sa.Text, primary_key=True),
        *(
            sa.Column(name, sa.Text, nullable=False)
            for name in (
                "box",
                "instrument",
                "staff",
                "role",
                "purpose",
                "mode",
                "service",
                "reason",
                "ticket",
            )
        ),
        sa.Column("port", sa.Integer, nullable=False),
        sa.Column("tcp_port", sa.Integer, nullable=False),
        sa.Column("requested_at_ms", sa.BigInteger, nullable=False),
        sa.Column("expires_at_ms", sa.BigInteger, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("cause", sa.Text, nullable=False, server_default=""),
        sa.Column("opened_at_ms", sa.BigInteger),
        sa.Column("ended_at_ms", sa.BigInteger),
        sa.Column("request_key", sa.Text),
        sa.Column("recording_head", sa.LargeBinary),
        sa.Column("recording_deleted_at_ms", sa.BigInteger),
    )
    op.create_index(
        "remote_sessions_of_instrument", "remote_sessions", ["box", "instrument", "requested_at_ms"]
    )
    op.create_index("remote_sessions_requested", "remote_sessions", ["requested_at_ms", "id"])
    op.create_index("remote_sessions_of_request", "remote_sessions", ["staff", "request_key"], unique=True)
    op.create_table(
        "session_notes",
        sa.Column("session", sa.Text, primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("at_ms", sa.BigInteger, nullable=False),
        sa.Column("staff", sa.Text, nullable=False),
        sa.Column("text", sa.Text, nullable=False),
    )
    op.create_table(
        "box_keys",
        sa.Column("box", sa.Text, primary_key=True),
        sa.Column("key", sa.Text, primary_key=True),
        sa.Column("used_from_ms", sa.BigInteger, nullable=False),
    )
