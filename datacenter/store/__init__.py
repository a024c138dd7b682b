"""The data center's database: schema, migrations, queries, and the store that keeps each report once."""
