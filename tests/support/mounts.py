"""A mount namespace for each process that runs tests.

A lab, an image build or a scan of another worker creates its mount namespace as a copy, and keeps the copied mounts
after the test has unmounted its own. The kernel would then still write to a file system on a loop device, whose
backing file the test already uses for another purpose.
"""

from __future__ import annotations

from pathlib import Path

from sim.worlds.kernel.namespaces import syscalls


def isolate_mounts() -> None:
    """Move this process, which needs to be root, into a new mount namespace. Raises: OSError."""
    syscalls.unshare(syscalls.NEW_MOUNTS)
    syscalls.mount("none", Path("/"), flags=syscalls.MS_REC | syscalls.MS_PRIVATE)
