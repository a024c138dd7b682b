"""The last two sign-ins of each staff member; pages show the previous one."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create `staff_sign_ins`; earlier sign-ins are only in the audit log."""
    op.create_table(
        "staff_sign_ins",
        sa.Column("staff", sa.Text, primary_key=True),
        sa.Column("at_ms", sa.BigInteger, nullable=False),
        sa.Column("before_ms", sa.BigInteger),
    )


def downgrade() -> None:
    """Remove the table."""
    op.drop_table("staff_sign_ins")
