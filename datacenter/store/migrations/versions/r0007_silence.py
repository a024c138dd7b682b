"""Times of the latest reports of boxes and instruments, and of the ends of alerts."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create `silence_state`; add the time of resolution."""
    op.add_column("alerts", sa.Column("resolved_at_ms", sa.BigInteger))
    op.create_table(
        "silence_state",
        *(sa.Column(name, sa.Text, primary_key=True) for name in ("box", "instrument")),
        sa.Column("last_seen_ms", sa.BigInteger, nullable=False),
        *(sa.Column(name, sa.BigInteger) for name in ("box_ms", "counts_from_ms")),
        *(sa.Column(name, sa.BigInteger, nullable=False) for name in ("run", "number")),
        sa.Column("model", sa.Text),
        sa.Column("silent_ms", sa.BigInteger),
        sa.Column("alert", sa.Text),
    )
