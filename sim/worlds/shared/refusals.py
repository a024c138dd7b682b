"""Errors that end a run before its lab begins."""

from __future__ import annotations


class ImageRefused(Exception):
    """The image cannot be used, or a box does not start from it; the message says what would be right."""
