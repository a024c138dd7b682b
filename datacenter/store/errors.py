"""Errors of the store."""

from __future__ import annotations

import re
from typing import Final

_QUOTES_VALUES: Final = ("22", "23")
"""The classes of SQLSTATE whose messages quote values: data exceptions, and violated constraints."""


class StoreError(Exception):
    """The database failed; nothing was changed."""

    @classmethod
    def of(cls, error: Exception) -> StoreError:
        """Return the error to raise `from None`, without contents of rows, which PostgreSQL quotes."""
        cause = getattr(error, "orig", None) or error
        state, diagnostics = getattr(cause, "sqlstate", None), getattr(cause, "diag", None)
        if state is None or diagnostics is None:
            return cls(str(cause))  # without the statement, which SQLAlchemy adds
        if not state.startswith(_QUOTES_VALUES):
            return cls(f"{diagnostics.message_primary} (SQLSTATE {state})")
        kind = re.sub("(?<=[a-z])(?=[A-Z])", " ", type(cause).__name__).lower()  # such as "unique violation"
        names = (diagnostics.table_name, diagnostics.column_name, diagnostics.constraint_name)
        return cls(f"{' '.join((kind, *filter(None, names)))} (SQLSTATE {state})")


class UnknownBoxError(Exception):
    """No box with that serial number is authorized."""
