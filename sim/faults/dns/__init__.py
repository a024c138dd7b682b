"""Faults of the site's name service."""
