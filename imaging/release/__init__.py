"""Releases: signed metadata of what boxes install."""
