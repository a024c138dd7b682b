"""States of commands, who requested and approved them, and the files of commands."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns to `commands` with the states that follow from the outcomes, and create the tables of files."""
    op.drop_index("commands_waiting", "commands")
    for column in (
        sa.Column("state", sa.Text, nullable=False, server_default="queued"),
        sa.Column("ending", sa.Text),
        sa.Column("expires_at_ms", sa.BigInteger),
        sa.Column("delivered_at_ms", sa.BigInteger),
        sa.Column("executing_at_ms", sa.BigInteger),
        sa.Column("requester", sa.Text, nullable=False, server_default=""),
        sa.Column("purpose", sa.Text, nullable=False, server_default=""),
        sa.Column("approved_by", sa.Text),
        sa.Column("approved_at_ms", sa.BigInteger),
        sa.Column("file", sa.Text),
        sa.Column("file_bytes", sa.BigInteger),
        sa.Column("transferred_bytes", sa.BigInteger, nullable=False, server_default="0"),
    ):
        op.add_column("commands", column)
    op.execute(
        "UPDATE commands SET state = CASE WHEN outcome = 'done' THEN 'done' ELSE 'failed' END"
        " WHERE outcome IS NOT NULL"
    )
    op.create_index("commands_waiting", "commands", ["box", "state", "due_at_ms"])
    op.create_table(
        "files",
        sa.Column("sha256", sa.Text, primary_key=True),
        sa.Column("bytes", sa.BigInteger, nullable=False),
        sa.Column("stored_at_ms", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "file_parts",
        sa.Column("file", sa.Text, primary_key=True),
        sa.Column("position", sa.BigInteger, primary_key=True),
        sa.Column("body", sa.LargeBinary, nullable=False),
    )
