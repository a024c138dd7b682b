"""The tables of the database: schema, partitions, and the append-only audit log."""
