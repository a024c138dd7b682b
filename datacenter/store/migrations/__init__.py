"""Alembic's migrations of the data center's database; `datacenter.store.migrate` runs them."""
