# SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
"""Partially readable settings tables: checks of the readable values run although other values could not be read.

Instead of the table, such a check gets a
`PartialTable` with the values that could be read. Reading another value raises `UnreadError`, which ends that part of
the check: `Problems.part` marks the parts.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MethodType
from typing import Any


class UnreadError(Exception):
    """A value is needed that could not be read; its problem has already been reported."""


class PartialTable:
    """The values of a Struct that could be read. Methods and properties are those of the Struct."""

    def __init__(self, kind: type, values: Mapping[str, Any]) -> None:
        self._kind = kind
        vars(self).update(values)

    def __getattr__(self, name: str) -> Any:
        """Return a method or property. Raises: UnreadError for a value that could not be read."""
        if name in getattr(self._kind, "__struct_fields__", ()):
            raise UnreadError(name)
        attribute = getattr(self._kind, name)
        if isinstance(attribute, property) and attribute.fget is not None:
            return attribute.fget(self)
        return MethodType(attribute, self) if callable(attribute) else attribute
