"""The sessions of the staff's pages."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create `web_sessions`."""
    op.create_table(
        "web_sessions",
        sa.Column("sha256", sa.Text, primary_key=True),
        sa.Column("staff", sa.Text, nullable=False),
        sa.Column("signed_in_at_ms", sa.BigInteger, nullable=False),
        sa.Column("ends_at_ms", sa.BigInteger, nullable=False),
        sa.Column("way", sa.Text, nullable=False),
        sa.Column("settings", sa.Text, nullable=False),
        sa.Column("claimed", sa.Text),
        sa.Column("id_token", sa.Text, nullable=False),
        sa.Column("state_sha256", sa.Text, unique=True),
    )
    op.create_index("ix_web_sessions_ends_at_ms", "web_sessions", ["ends_at_ms"])
