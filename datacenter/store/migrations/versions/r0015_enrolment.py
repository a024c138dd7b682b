"""Certificates issued to boxes, requests for them that staff decide on, and denied boxes."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "certificates",
        sa.Column("serial_number", sa.Text, primary_key=True),
        *(sa.Column(name, sa.Text, nullable=False) for name in ("box", "key", "cause")),
        *(sa.Column(name, sa.BigInteger, nullable=False) for name in ("issued_at_ms", "expires_at_ms")),
        sa.Column("certificate", sa.LargeBinary, nullable=False),
    )
    op.create_index("certificates_of_box", "certificates", ["box", "issued_at_ms"])
    op.create_table(
        "enrolments",
        *(sa.Column(name, sa.Text, primary_key=True) for name in ("box", "key")),
        *(sa.Column(name, sa.Text, nullable=False) for name in ("reason", "state")),
        *(sa.Column(name, sa.BigInteger, nullable=False) for name in ("asked_at_ms", "seen_at_ms")),
        sa.Column("decided_by", sa.Text),
        sa.Column("decided_at_ms", sa.BigInteger),
    )
    op.create_table(
        "denied_boxes",
        sa.Column("box", sa.Text, primary_key=True),
        sa.Column("denied_at_ms", sa.BigInteger, nullable=False),
        *(sa.Column(name, sa.Text, nullable=False) for name in ("denied_by", "reason")),
    )
