"""The installed base: histograms of readings by model and day. All archived days are marked, to be counted."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the tables, and mark the days of all chunks."""
    op.create_table(
        "changed_days",
        sa.Column("day", sa.Integer, primary_key=True),
        *(sa.Column(name, sa.Text, primary_key=True) for name in ("box", "instrument")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "base_instruments",
        *(sa.Column(name, sa.Text, primary_key=True) for name in ("box", "instrument")),
        sa.Column("day", sa.Integer, primary_key=True),
        sa.Column("model", sa.Text, nullable=False),
        *(sa.Column(name, sa.Text) for name in ("country", "region")),
        sa.Column("body", sa.LargeBinary, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "base_days",
        *(sa.Column(name, sa.Text, primary_key=True) for name in ("model", "reading", "place")),
        sa.Column("day", sa.Integer, primary_key=True),
        sa.Column("instruments", sa.Integer, nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "base_snapshots",
        sa.Column("model", sa.Text, primary_key=True),
        sa.Column("day", sa.Integer, primary_key=True),
        sa.Column("body", sa.LargeBinary, nullable=False),
    )
    op.execute("INSERT INTO changed_days (day, box, instrument) SELECT day, box, instrument FROM chunks")
