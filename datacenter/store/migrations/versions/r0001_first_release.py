"""The tables of version 0.1.0."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create `boxes`, `records` and `commands`."""
    op.create_table(
        "boxes",
        sa.Column("serial", sa.Text, primary_key=True),
        sa.Column("enrolled_at_ms", sa.BigInteger, nullable=False),
        sa.Column("dismissed_at_ms", sa.BigInteger),
    )
    op.create_table(
        "records",
        sa.Column("box", sa.Text, sa.ForeignKey("boxes.serial"), primary_key=True),
        sa.Column("epoch", sa.BigInteger, primary_key=True),
        sa.Column("sequence", sa.BigInteger, primary_key=True),
        sa.Column("instrument", sa.Text, nullable=False),
        sa.Column("run", sa.BigInteger, nullable=False),
        sa.Column("number", sa.BigInteger),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("at_ms", sa.BigInteger, nullable=False),
        sa.Column("stored_at_ms", sa.BigInteger, nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
        sa.UniqueConstraint("box", "instrument", "run", "number"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "commands",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True),
        sa.Column("box", sa.Text, sa.ForeignKey("boxes.serial"), nullable=False),
        sa.Column("instrument", sa.Text, nullable=False),
        sa.Column("verb", sa.Text, nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
        sa.Column("created_at_ms", sa.BigInteger, nullable=False),
        sa.Column("delivered_count", sa.Integer, nullable=False),
        sa.Column("due_at_ms", sa.BigInteger, nullable=False),
        sa.Column("outcome", sa.Text),
        sa.Column("closed_at_ms", sa.BigInteger),
        sqlite_autoincrement=True,
    )
    op.create_index("commands_waiting", "commands", ["box", "outcome", "due_at_ms"])
