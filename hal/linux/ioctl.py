"""ioctl system calls, through the extension module that is compiled at installation (`ioctl_build.py`)."""

from __future__ import annotations

import errno
import os
from functools import cache
from importlib import import_module
from typing import Any


@cache
def compiled() -> Any:
    """Return the compiled module: `lib` has the kernel's constants, `ffi` its structures.

    Raises: OSError (ENOSYS) if it was not built; the message says what to install.
    """
    try:
        return import_module("hal.linux._ioctl")
    except ImportError as error:
        raise OSError(
            errno.ENOSYS,
            "hal.linux was installed without its compiled extension; install a C compiler, Python's headers and the "
            "kernel's (gcc, python3-devel, kernel-headers), and reinstall this package",
        ) from error


def ioctl(fd: int, request: int, argument: Any) -> None:
    """Call `ioctl(2)`; `argument` is an object of `compiled().ffi`. Raises: OSError."""
    module = compiled()
    if module.lib.rap_ioctl(fd, request, argument) < 0:
        raise OSError(module.ffi.errno, os.strerror(module.ffi.errno))
