"""The extension modules in C, which are optional: they are built only if the installation has a C compiler."""

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
