"""The limit on this process's file descriptors."""

from __future__ import annotations

import resource
from contextlib import suppress
from typing import Final

DESCRIPTORS_RESERVED: Final = 128
"""Descriptors that a program needs besides accepted connections: files, database, pipes, own connections."""


def raise_descriptor_limit(wanted: int) -> int:
    """Raise the soft limit of open files to `wanted`, at most to the hard limit; return the soft limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY:
        hard = max(wanted, soft)
    if soft < min(wanted, hard):
        with suppress(OSError, ValueError):  # a sandbox may forbid changing the limit
            resource.setrlimit(resource.RLIMIT_NOFILE, (min(wanted, hard), hard))
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]
