"""Certificates of instruments, which they request through their box, and denied instruments."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the instrument to certificates and requests; earlier certificates and requests belong to boxes."""
    for table in ("certificates", "enrolments"):
        op.add_column(table, sa.Column("instrument", sa.Text, nullable=False, server_default=""))
    op.create_table(
        "denied_instruments",
        sa.Column("box", sa.Text, primary_key=True),
        sa.Column("instrument", sa.Text, primary_key=True),
        sa.Column("denied_at_ms", sa.BigInteger, nullable=False),
        sa.Column("denied_by", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
    )


def downgrade() -> None:
    """Remove the column and the table."""
    op.drop_table("denied_instruments")
    for table in ("certificates", "enrolments"):
        op.drop_column(table, "instrument")
