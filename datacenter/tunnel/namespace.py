"""Sockets in the network namespace of another process."""

from __future__ import annotations

import asyncio
import ctypes
import os
import socket
import threading
from pathlib import Path
from typing import Final

_NEW_NETWORK: Final = 0x40000000
"""CLONE_NEWNET of sched.h."""
_LIBRARY: Final = ctypes.CDLL(None, use_errno=True)


async def socket_of(pid: int) -> socket.socket:
    """Return a TCP socket in the network namespace of the process `pid`. Raises: OSError."""
    return await asyncio.to_thread(_in_new_thread, pid)


def _in_new_thread(pid: int) -> socket.socket:
    """Create the socket in a new thread: a thread that has changed its namespace must not be reused."""
    made: list[socket.socket | OSError] = []

    def make() -> None:
        try:
            with Path(f"/proc/{pid}/ns/net").open() as namespace:
                if _LIBRARY.setns(namespace.fileno(), _NEW_NETWORK) != 0:
                    number = ctypes.get_errno()
                    raise OSError(number, f"setns: {os.strerror(number)}")
            made.append(socket.socket(socket.AF_INET, socket.SOCK_STREAM))
        except OSError as error:
            made.append(error)

    thread = threading.Thread(target=make)
    thread.start()
    thread.join()
    (result,) = made
    if isinstance(result, OSError):
        raise result
    result.setblocking(False)
    return result
