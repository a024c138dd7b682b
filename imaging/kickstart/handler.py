"""Creates handlers of pykickstart, into which its parser reads commands."""

from __future__ import annotations

import io
import pickle
import sys
from functools import cache
from types import FunctionType
from typing import Any

from pykickstart.version import makeVersion


def new_handler(version: str) -> Any:
    """Return an empty handler for a version of the syntax ("RHEL9"). Raises: KickstartVersionError."""
    return _template(version).copy()


class _Template:
    """A pickled handler: unpickling takes less than a tenth of the time of creating or deep-copying a handler."""

    def __init__(self, handler: Any) -> None:
        content = io.BytesIO()
        pickler = _Pickler(content)
        pickler.dump(handler)
        self._content, self._functions = content.getvalue(), pickler.functions

    def copy(self) -> Any:
        unpickler = _Unpickler(io.BytesIO(self._content))
        unpickler.functions = self._functions
        return unpickler.load()


class _Pickler(pickle.Pickler):
    """Pickles local functions, such as one in argparse, by their index in `functions`."""

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file, pickle.HIGHEST_PROTOCOL)
        self.functions: list[FunctionType] = []

    def persistent_id(self, value: Any) -> int | None:
        if not isinstance(value, FunctionType) or "<locals>" not in value.__qualname__:
            return None
        self.functions.append(value)
        return len(self.functions) - 1


class _Unpickler(pickle.Unpickler):
    functions: list[FunctionType]

    def persistent_load(self, index: int) -> FunctionType:
        return self.functions[index]


@cache
def _template(version: str) -> _Template:
    path = sys.path.copy()
    try:
        return _Template(makeVersion(version))
    finally:
        sys.path[:] = path  # makeVersion extends it at each call
