"""Rules about users, passwords and keys."""
