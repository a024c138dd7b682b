"""TLS contexts, and checks of own and peer certificates."""
