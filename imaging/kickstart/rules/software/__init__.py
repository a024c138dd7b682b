"""Rules about packages and their sources."""
