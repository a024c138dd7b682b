"""The port of the box at which an instrument is."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column; it is filled by the boxes' next records."""
    op.add_column("instruments", sa.Column("port", sa.Integer))


def downgrade() -> None:
    """Remove the column."""
    op.drop_column("instruments", "port")
