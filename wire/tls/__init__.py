"""TLS: contexts, and what is checked of own and peer certificates."""
