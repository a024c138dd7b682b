"""Faults of a link."""
