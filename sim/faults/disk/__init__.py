"""Faults of the box's disk."""
