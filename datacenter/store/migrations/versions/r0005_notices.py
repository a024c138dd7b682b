"""The deliveries of notices to targets, and the text of alerts."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create `deliveries` and `notice_targets`; add the texts of alerts; name the time of routing."""
    for name in ("text", "parts"):
        op.add_column("alerts", sa.Column(name, sa.Text))
    op.drop_index("notices_unsent", "notices")
    op.execute("ALTER TABLE notices RENAME COLUMN sent_at_ms TO routed_at_ms")
    op.create_index("notices_unrouted", "notices", ["routed_at_ms", "created_at_ms"])
    op.create_table(
        "deliveries",
        *(sa.Column(name, sa.Text, primary_key=True) for name in ("alert", "kind", "target")),
        sa.Column("state", sa.Text, nullable=False),
        *(sa.Column(name, sa.Integer, nullable=False) for name in ("attempts", "alone")),
        *(sa.Column(name, sa.BigInteger, nullable=False) for name in ("created_at_ms", "changed_at_ms")),
        *(sa.Column(name, sa.Text) for name in ("claim", "problem")),
    )
    op.create_index("deliveries_of_target", "deliveries", ["target", "state", "created_at_ms"])
    op.create_table(
        "notice_targets",
        sa.Column("target", sa.Text, primary_key=True),
        sa.Column("claim", sa.Text),
        *(sa.Column(name, sa.BigInteger, nullable=False) for name in ("leased_until_ms", "next_at_ms")),
        sa.Column("failures", sa.Integer, nullable=False),
    )
