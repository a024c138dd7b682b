"""The labs that run on this machine, found by their sockets, which vanish with them.

The supervisor of a lab listens at `@rap-lab/NAME` in the abstract UNIX namespace (unix(7)) of the machine's network
namespace. Two running labs therefore cannot have the same name, and /proc/net/unix lists all labs.
"""

from __future__ import annotations

import os
import re
import socket
import struct
from pathlib import Path
from typing import Final

_PREFIX: Final = "@rap-lab/"
_NAME: Final = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)


class LabExists(Exception):
    """A lab with that name is already running."""


class NoSuchLab(Exception):
    """No lab with that name is running."""


def running() -> list[str]:
    """Return the sorted names of the labs that run on this machine."""
    bound = (line.split()[-1] for line in Path("/proc/net/unix").read_text().splitlines())
    return sorted({path.removeprefix(_PREFIX) for path in bound if path.startswith(_PREFIX)})


def take_name(name: str) -> socket.socket:
    """Return a socket bound to the lab's name, which does not listen yet. Raises: LabExists, ValueError."""
    holder = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        holder.bind(_address(name))
    except OSError:
        holder.close()
        raise LabExists(f"a lab named {name!r} is running; end it with `rap lab down {name}`") from None
    except ValueError:
        holder.close()
        raise
    return holder


def connect(name: str) -> socket.socket:
    """Connect to the supervisor of a lab. Raises: NoSuchLab."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.connect(_address(name))
    except (ConnectionRefusedError, ValueError):
        connection.close()
        others = ", ".join(running()) or "none"
        raise NoSuchLab(f"no lab named {name!r} is running; running: {others}") from None
    return connection


def supervisor_of(name: str) -> int:
    """Return a pidfd of process 1 of a lab. Raises: NoSuchLab."""
    with connect(name) as connection:
        credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    pid, _, _ = struct.unpack("3i", credentials)
    return os.pidfd_open(pid)


def check_name(name: str) -> None:
    """Check the name of a lab. Raises: ValueError."""
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name!r} cannot name a lab: use 1 to 64 letters, digits, '-', '_' and '.'")


def _address(name: str) -> str:
    check_name(name)
    return _PREFIX.replace("@", "\0") + name
