"""The record up to which the data center's own audit log was forwarded to the SIEM."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table."""
    op.create_table(
        "siem_cursors",
        sa.Column("log", sa.Text, primary_key=True),
        sa.Column("number", sa.BigInteger, nullable=False),
    )
