"""The box's configuration file: its keys and their defaults."""
