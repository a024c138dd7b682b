# SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
"""Tables of settings files that have problems, for checks of everything else in them.

A check that compares values runs although some of them could not be read. In place of the table it gets a
`PartialTable`, which has the values that could be read. Reading another one raises `UnreadError`, which ends that
part of the check: `Problems.part` marks the parts.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MethodType
from typing import Any


class UnreadError(Exception):
    """A value is needed whose problem has been reported already."""


class PartialTable:
    """The values of a Struct that could be read. Methods and properties are those of the Struct."""

    def __init__(self, kind: type, values: Mapping[str, Any]) -> None:
        self._kind = kind
        vars(self).update(values)

    def __getattr__(self, name: str) -> Any:
        """Return a method or property. Raises: UnreadError for a value that could not be read."""
        if name in getattr(self._kind, "__struct_fields__", ()):
            raise UnreadError(name)
        found = getattr(self._kind, name)
        if isinstance(found, property) and found.fget is not None:
            return found.fget(self)
        return MethodType(found, self) if callable(found) else found
