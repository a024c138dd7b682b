"""The extension modules in C, which are optional: they were built where a C compiler was installed."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import Any


@cache
def extension(name: str) -> Any:
    """Return an extension module, with `lib` and `ffi` of cffi; None if it was not built."""
    try:
        return import_module(name)
    except ImportError:
        return None
