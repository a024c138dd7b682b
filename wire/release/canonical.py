"""Canonical JSON (OLPC), the form of metadata over which The Update Framework's signatures are computed."""

from __future__ import annotations

from typing import Any


class CanonicalError(ValueError):
    """The value has no canonical form: it has a fraction, or a key that is not text."""


def canonical(value: Any) -> bytes:
    """Return the canonical form of a JSON value: sorted keys, no white space. Raises: CanonicalError."""
    return _text(value).encode()


def _text(value: Any) -> str:
    match value:
        case None | True | False:
            return {None: "null", True: "true", False: "false"}[value]
        case str():
            return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
        case int():
            return str(value)
        case list():
            return "[" + ",".join(map(_text, value)) + "]"
        case dict() if all(isinstance(key, str) for key in value):
            return "{" + ",".join(f"{_text(key)}:{_text(value[key])}" for key in sorted(value)) + "}"
    raise CanonicalError(f"{value!r} has no canonical form")
