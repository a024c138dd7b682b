"""The names of files that staff send, and the keys by which repeated requests are detected."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns to `commands`."""
    op.add_column("commands", sa.Column("file_name", sa.Text, nullable=False, server_default=""))
    op.add_column("commands", sa.Column("request_key", sa.Text))
    op.create_index("commands_of_request", "commands", ["requester", "request_key"], unique=True)
    op.create_index("commands_of_file", "commands", ["file"])
