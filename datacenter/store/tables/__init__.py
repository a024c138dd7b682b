"""The tables of the database: schema, migration, partitions, and the append-only audit log."""
