"""Which labs run on this machine: no file says so, but a socket of each that vanishes with it.

A lab's supervisor listens at `@rap-lab/NAME` in the abstract UNIX namespace (unix(7)) of the machine's network,
so two labs cannot have the same name at once, and /proc/net/unix is the list of all.
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
    """A lab of that name is running."""


class NoSuchLab(Exception):
    """No lab of that name is running."""


def running() -> list[str]:
    """The names of the labs that run on this machine, sorted."""
    bound = (line.split()[-1] for line in Path("/proc/net/unix").read_text().splitlines())
    return sorted({path.removeprefix(_PREFIX) for path in bound if path.startswith(_PREFIX)})


def take_name(name: str) -> socket.socket:
    """A socket that has the name, and does not listen yet. Raises LabExists, ValueError."""
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
    """A connection to the lab's supervisor. Raises NoSuchLab."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.connect(_address(name))
    except (ConnectionRefusedError, ValueError):
        connection.close()
        others = ", ".join(running()) or "none"
        raise NoSuchLab(f"no lab named {name!r} is running; running: {others}") from None
    return connection


def supervisor_of(name: str) -> int:
    """A pidfd of the first process of the lab of that name. Raises NoSuchLab."""
    with connect(name) as connection:
        credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    pid, _, _ = struct.unpack("3i", credentials)
    return os.pidfd_open(pid)


def check_name(name: str) -> None:
    """Raise ValueError for what cannot name a lab."""
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name!r} cannot name a lab: use 1 to 64 letters, digits, '-', '_' and '.'")


def _address(name: str) -> str:
    check_name(name)
    return _PREFIX.replace("@", "\0") + name
