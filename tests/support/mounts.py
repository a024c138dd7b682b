"""A mount namespace for each process that runs tests.

A lab, an image build or a scan of another worker makes its mount namespace as a copy, and keeps the copied mounts
after the test has unmounted its own. The kernel then still writes to a file system on a loop device whose file the
test has already given to something else.
"""

from __future__ import annotations

import ctypes
import os
from typing import Final

from tests.support.namespaces import unshare

_CLONE_NEWNS: Final = 0x00020000
_MS_REC, _MS_PRIVATE = 0x4000, 1 << 18
_LIBC = ctypes.CDLL(None, use_errno=True)


def isolate_mounts() -> None:
    """Move this process, which needs to be root, into a new mount namespace. Raises: OSError."""
    unshare(_CLONE_NEWNS)
    if _LIBC.mount(b"none", b"/", None, _MS_REC | _MS_PRIVATE, None) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
