"""Linux system calls that Python 3.11 does not provide. All functions raise OSError."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

# <sched.h>
NEW_FS: Final = 0x00000200
NEW_MOUNTS: Final = 0x00020000
NEW_UTS: Final = 0x04000000
NEW_IPC: Final = 0x08000000
NEW_PIDS: Final = 0x20000000
NEW_NET: Final = 0x40000000

# <sys/mount.h>
MS_NOSUID: Final = 0x2
MS_NODEV: Final = 0x4
MS_NOEXEC: Final = 0x8
MS_BIND: Final = 0x1000
MS_REC: Final = 0x4000
MS_PRIVATE: Final = 1 << 18
MS_SLAVE: Final = 1 << 19
MS_SHARED: Final = 1 << 20

_PR_SET_PDEATHSIG: Final = 1
_SYS_MOUNT_SETATTR: Final = 442
_AT_FDCWD: Final = -100
_AT_RECURSIVE: Final = 0x8000
_MOUNT_ATTR_RDONLY: Final = 0x1

_libc: Final = ctypes.CDLL(None, use_errno=True)
_libc.mount.argtypes = (
    ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_ulong, ctypes.c_char_p,
)  # fmt: skip


class _MountAttributes(ctypes.Structure):
    """`struct mount_attr` of mount_setattr(2)."""

    _fields_ = (
        ("set", ctypes.c_uint64),
        ("clear", ctypes.c_uint64),
        ("propagation", ctypes.c_uint64),
        ("user_namespace", ctypes.c_uint64),
    )


def _check(result: int, operation: str) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{operation}: {os.strerror(number)}")


def unshare(namespaces: int) -> None:
    """unshare(2): give the calling thread new namespaces."""
    _check(_libc.unshare(namespaces), "unshare")


def enter(namespace: int, kinds: int = 0) -> None:
    """setns(2): move the calling thread into a namespace or, given a pidfd, into the process's namespaces `kinds`."""
    _check(_libc.setns(namespace, kinds), "setns")


def mount(source: str, target: Path, kind: str = "", flags: int = 0, options: str = "") -> None:
    """mount(2): mount a file system."""
    result = _libc.mount(source.encode(), os.fsencode(target), kind.encode(), flags, options.encode())
    _check(result, f"mount {source} on {target}")


def set_writable(tree: Path, *, writable: bool) -> None:
    """mount_setattr(2): make the mounts at and below `tree` writable or read-only."""
    attributes = _MountAttributes(**{"clear" if writable else "set": _MOUNT_ATTR_RDONLY})
    size = ctypes.c_size_t(ctypes.sizeof(attributes))
    path = os.fsencode(tree)
    _check(
        _libc.syscall(
            ctypes.c_long(_SYS_MOUNT_SETATTR),
            ctypes.c_int(_AT_FDCWD),
            ctypes.c_char_p(path),
            ctypes.c_uint(_AT_RECURSIVE),
            ctypes.byref(attributes),
            size,
        ),
        f"change the mount {tree}",
    )


def die_with_parent(signal: int) -> None:
    """prctl(2), PR_SET_PDEATHSIG: send this process a signal when the thread that forked it ends."""
    _check(_libc.prctl(_PR_SET_PDEATHSIG, signal, 0, 0, 0), "prctl")


def namespace(kind: str) -> int:
    """Open a namespace of the calling thread: "net", "mnt", "uts", "pid_for_children"; returns the descriptor."""
    return os.open(f"/proc/thread-self/ns/{kind}", os.O_RDONLY | os.O_CLOEXEC)


@contextmanager
def inside(network: int) -> Iterator[None]:
    """Run the block with the calling thread in another network namespace; it must not await anything."""
    previous = namespace("net")
    try:
        enter(network)
        try:
            yield
        finally:
            enter(previous)
    finally:
        os.close(previous)
