"""How many files and connections this process may have open."""

from __future__ import annotations

import resource
from contextlib import suppress
from typing import Final

DESCRIPTORS_BESIDE: Final = 128
"""What a program needs beside its connections: its files, its database, pipes, and connections of its own."""


def allow_descriptors(wanted: int) -> int:
    """Raise the soft limit of open files to `wanted`, as far as the hard limit allows; returns the soft limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY:
        hard = max(wanted, soft)
    if soft < min(wanted, hard):
        with suppress(OSError, ValueError):  # a sandbox may forbid it
            resource.setrlimit(resource.RLIMIT_NOFILE, (min(wanted, hard), hard))
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]
