"""Releases: their signed metadata, as The Update Framework specifies it."""
