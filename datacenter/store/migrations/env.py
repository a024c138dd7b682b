"""Configures Alembic: runs the migrations on the connection that `datacenter.store.migrate` passes."""

from __future__ import annotations

from alembic import context

from datacenter.store.tables.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,  # SQLite cannot alter a column: the table is copied instead
    transactional_ddl=False,  # `datacenter.store.migrate` holds one transaction around all revisions
)
context.run_migrations()
