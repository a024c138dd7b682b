"""Releases: signed metadata of the files that boxes install."""
