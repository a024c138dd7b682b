"""Handlers of pykickstart, which keep the commands that its parser reads."""

from __future__ import annotations

import copy
import sys
from functools import cache
from typing import Any

from pykickstart.version import makeVersion


def new_handler(version: str) -> Any:
    """Return a handler without commands for a version of the syntax ("RHEL9"). Raises: KickstartVersionError."""
    return copy.deepcopy(_handler(version))


@cache
def _handler(version: str) -> Any:
    """To copy a handler takes a third of the time of making one."""
    path = sys.path.copy()
    try:
        return makeVersion(version)
    finally:
        sys.path[:] = path  # makeVersion extends it at each call
