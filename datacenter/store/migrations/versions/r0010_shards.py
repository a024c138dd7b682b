"""The shard of a box."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add `boxes.shard`; the reports of all existing boxes stay in this database."""
    op.add_column("boxes", sa.Column("shard", sa.Text))
