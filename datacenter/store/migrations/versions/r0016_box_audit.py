"""Audit records of boxes, their hash chains, and the positions up to which they were forwarded."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "box_audit",
        sa.Column("box", sa.Text, primary_key=True),
        sa.Column("epoch", sa.BigInteger, primary_key=True),
        sa.Column("number", sa.BigInteger, primary_key=True),
        sa.Column("hash", sa.LargeBinary, primary_key=True),
        *(sa.Column(name, sa.BigInteger, nullable=False) for name in ("sequence", "at_ms", "stored_at_ms")),
        *(sa.Column(name, sa.Text, nullable=False) for name in ("kind", "text")),
        sa.Column("line", sa.LargeBinary),
        sa.Column("is_repeated", sa.Integer, nullable=False),
        sa.Column("entry", sa.LargeBinary, nullable=False),
    )
    op.create_index("box_audit_line", "box_audit", ["box", "line"])
    op.create_index("box_audit_at", "box_audit", ["at_ms"])
    op.create_table(
        "box_chains",
        sa.Column("box", sa.Text, primary_key=True),
        sa.Column("epoch", sa.BigInteger, primary_key=True),
        sa.Column("number", sa.BigInteger, nullable=False),
        sa.Column("hash", sa.LargeBinary, nullable=False),
        sa.Column("last", sa.BigInteger, nullable=False),
        sa.Column("waiting_since_ms", sa.BigInteger),
        sa.Column("forwarded", sa.BigInteger, nullable=False, server_default="0"),
    )
    op.create_table(
        "box_audit_problems",
        sa.Column("box", sa.Text, primary_key=True),
        sa.Column("epoch", sa.BigInteger, primary_key=True),
        sa.Column("number", sa.BigInteger, primary_key=True),
        sa.Column("problem", sa.Text, primary_key=True),
        sa.Column("at_ms", sa.BigInteger, nullable=False),
    )
