"""Rollouts of releases, the orders of boxes, and the running release of each."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "box_releases",
        sa.Column("box", sa.Text, primary_key=True),
        *(sa.Column(name, sa.BigInteger, nullable=False) for name in ("running", "data")),
        *(sa.Column(name, sa.Text, nullable=False) for name in ("slot_sha256", "other_sha256")),
        *(sa.Column(name, sa.BigInteger, nullable=False) for name in ("follows", "told", "asked_at_ms")),
    )
    number = sa.BigInteger().with_variant(sa.Integer, "sqlite")
    op.create_table(
        "rollouts",
        sa.Column("id", number, primary_key=True),
        sa.Column("release", sa.BigInteger, nullable=False),
        *(
            sa.Column(name, sa.Text, nullable=False)
            for name in ("name", "kind", "site", "country", "region", "plan", "requester", "purpose")
        ),
        sa.Column("created_at_ms", sa.BigInteger, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False, server_default=""),
        sa.Column("wave", sa.Integer, nullable=False, server_default="0"),
        sa.Column("wave_began_at_ms", sa.BigInteger),
        sa.Column("approved_by", sa.Text),
        sa.Column("approved_at_ms", sa.BigInteger),
        sa.Column("changed_at_ms", sa.BigInteger, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("rollouts_in_state", "rollouts", ["state"])
    op.create_table(
        "update_orders",
        sa.Column("id", number, primary_key=True),
        sa.Column("rollout", sa.BigInteger, sa.ForeignKey("rollouts.id"), nullable=False),
        sa.Column("box", sa.Text, sa.ForeignKey("boxes.serial"), nullable=False),
        sa.Column("release", sa.BigInteger, nullable=False),
        sa.Column("wave", sa.Integer, nullable=False),
        sa.Column("joined_at_ms", sa.BigInteger, nullable=False),
        *(sa.Column(name, sa.BigInteger) for name in ("ordered_at_ms", "deadline_ms")),
        sa.Column("step", sa.Text),
        sa.Column("rank", sa.Integer, nullable=False, server_default="0"),
        sa.Column("reason", sa.Text, nullable=False, server_default=""),
        sa.Column("step_at_ms", sa.BigInteger),
        sa.Column("ending", sa.Text),
        sa.Column("ended_at_ms", sa.BigInteger),
        sqlite_autoincrement=True,
    )
    op.create_index("update_orders_of_rollout", "update_orders", ["rollout", "box"], unique=True)
    op.create_index("update_orders_of_box", "update_orders", ["box", "release"])
    is_open = sa.text("ordered_at_ms IS NOT NULL AND ended_at_ms IS NULL")
    op.create_index(
        "update_orders_open",
        "update_orders",
        ["box"],
        unique=True,
        sqlite_where=is_open,
        postgresql_where=is_open,
    )
