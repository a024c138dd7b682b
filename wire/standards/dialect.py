"""Conversion of the dialect options of a site or profile, for all standards."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TypeVar

import msgspec
from msgspec import Struct

S = TypeVar("S", bound=Struct)


def convert_options(options: Mapping[str, object], kind: type[S], standard: str) -> S:
    """Convert options to a `kind`. Raises: ValueError with the option and its correction."""
    try:
        return msgspec.convert(options, kind)
    except msgspec.ValidationError as error:
        known = ", ".join(field.encode_name for field in msgspec.structs.fields(kind))
        message = re.sub(r" - at `\$\.?(.*)`", r" (option `\1`)", str(error))
        raise ValueError(f"dialect: {message}; options of {standard} are {known}") from None
