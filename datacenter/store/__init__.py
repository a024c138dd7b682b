"""The data center's database: schema, migrations, queries, and the store, which stores each report once."""
