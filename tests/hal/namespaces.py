"""A network namespace of the test's own, gone with the last thing that is in it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from cffi import FFI

_CLONE_NEWNET = 0x40000000

_ffi = FFI()
_ffi.cdef("int unshare(int flags); int setns(int fd, int kind);")
_libc = _ffi.dlopen(None)


@contextmanager
def own_network() -> Iterator[None]:
    """This thread, and what it starts, is in an empty network namespace; a namespace is a thread's own affair."""
    with Path("/proc/thread-self/ns/net").open() as outside:
        if _libc.unshare(_CLONE_NEWNET):
            pytest.skip("needs root for a network namespace of its own")
        try:
            yield
        finally:
            assert _libc.setns(outside.fileno(), _CLONE_NEWNET) == 0
