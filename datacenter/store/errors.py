"""Errors of the store."""

from __future__ import annotations


class StoreError(Exception):
    """The database failed; nothing was changed."""


class UnknownBoxError(Exception):
    """No box with that serial number is authorized."""
