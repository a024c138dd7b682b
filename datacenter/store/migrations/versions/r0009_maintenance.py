"""Maintenance windows, and the silencing of alerts."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create `maintenance`; add the columns of silenced alerts."""
    op.create_table(
        "maintenance",
        sa.Column("id", sa.Text, primary_key=True),
        *(sa.Column(name, sa.Text, nullable=False) for name in ("kind", "site", "box", "instrument")),
        *(sa.Column(name, sa.BigInteger, nullable=False) for name in ("from_ms", "until_ms")),
        sa.Column("covers_critical", sa.Integer, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("planned_by", sa.Text, nullable=False),
        sa.Column("planned_at_ms", sa.BigInteger, nullable=False),
        sa.Column("ended_by", sa.Text),
    )
    op.create_index("maintenance_until", "maintenance", ["until_ms"])
    for name in ("silenced_at_ms", "silenced_until_ms"):
        op.add_column("alerts", sa.Column(name, sa.BigInteger))
    for name in ("silenced_by", "silence_reason", "maintenance"):
        op.add_column("alerts", sa.Column(name, sa.Text))
