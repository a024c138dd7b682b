"""Alembic's migrations of the data center's database; `datacenter.migrate` runs them."""
