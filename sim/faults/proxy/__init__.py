"""Faults of the site's proxy."""
