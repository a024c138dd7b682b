"""Faults of the data center."""
