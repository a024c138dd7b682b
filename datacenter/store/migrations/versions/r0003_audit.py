"""The audit log, which can only be appended to."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from datacenter.store.tables.append_only import TRIGGERS

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create `audit` and `audit_head` with their triggers."""
    texts = (
        "actor",
        "token",
        "action",
        "kind",
        "resource",
        "place",
        "purpose",
        "outcome",
        "policy",
        "reason",
    )
    op.create_table(
        "audit",
        sa.Column("number", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("at_ms", sa.BigInteger, nullable=False),
        *(sa.Column(name, sa.Text, nullable=False) for name in (*texts, "previous", "hash")),
    )
    op.create_table(
        "audit_head",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("number", sa.BigInteger, nullable=False),
        sa.Column("hash", sa.Text, nullable=False),
    )
    for statement in TRIGGERS[op.get_bind().dialect.name]:
        op.get_bind().exec_driver_sql(statement)
