"""Errors of an image and of faults, whose messages are for the user."""

from __future__ import annotations


class ImageRefused(Exception):
    """The image cannot be used, or a box does not start from it; the message says how to correct it."""


class FaultRefused(Exception):
    """A fault cannot be injected now; the message gives the reason."""
