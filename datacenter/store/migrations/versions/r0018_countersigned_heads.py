"""The countersigned head of each box's audit chain, and the record up to which retention removed its beginning."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns."""
    for column in (
        sa.Column("signed_number", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("signed", sa.LargeBinary),
        sa.Column("removed", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("removed_hash", sa.LargeBinary),
    ):
        op.add_column("box_chains", column)
