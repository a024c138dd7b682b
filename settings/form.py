# SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
"""Type annotations for values with a syntax that msgspec does not know, such as "128kbit" or a host name."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any


class Form(ABC):
    """The syntax of a value in a settings file."""

    __slots__ = ()

    @property
    @abstractmethod
    def rule(self) -> str:
        """The allowed values, in words."""

    @abstractmethod
    def read(self, given: object) -> object:
        """Convert the TOML value. Raises: ValueError with the correction."""

    def write(self, value: Any) -> object:
        """Convert back to a TOML value: the inverse of `read`, which by default returns the value unchanged."""
        return value
