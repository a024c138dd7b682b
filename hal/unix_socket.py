# SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
"""Listening Unix sockets: one program at a path, with the access mode from the first moment.

A program that was killed leaves its socket behind, and the next one must replace it, but never take the socket of a
running program. A lock on the file PATH.lock tells the two apart: the kernel releases it at the end of the program.
"""

from __future__ import annotations

import fcntl
import os
import socket
import stat
import struct
from pathlib import Path
from typing import Final, NamedTuple

PATH_BYTES_MAX: Final = 107
"""unix(7): `sun_path` has 108 bytes, the last of them NUL."""
_CREDENTIALS: Final = struct.Struct("3i")


class PeerProcess(NamedTuple):
    """The process at the other end of a connection, as it was when it connected."""

    pid: int
    uid: int
    gid: int


class Listener:
    """A bound, listening socket. `close` removes it from the file system."""

    def __init__(self, path: Path, mode: int, gid: int = -1) -> None:
        """Bind it with this mode; only the owner and root, and group `gid` (-1: this process's), may be let in by it.

        Raises: OSError; FileExistsError if another program listens there, or if the file is no socket.
        """
        self.path = path
        self._lock = os.open(f"{path}.lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._bind(mode, gid)
        except BaseException:
            self.socket.close()
            os.close(self._lock)
            raise

    def _bind(self, mode: int, gid: int) -> None:
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise FileExistsError(f"{self.path}: another program listens there; end that one first") from None
        try:
            if not stat.S_ISSOCK(os.lstat(self.path).st_mode):
                raise FileExistsError(
                    f"{self.path}: is there and is no socket; remove it, or name another path"
                )
            self.path.unlink()  # nobody holds the lock, so the program that made it has ended
        except FileNotFoundError:
            pass
        os.fchmod(self.socket.fileno(), mode)  # bind(2) makes the file with this mode or less
        self.socket.bind(os.fspath(self.path))
        if gid != -1:
            os.chown(self.path, -1, gid)
        self.path.chmod(mode)  # what the umask has withheld
        self._inode = os.lstat(self.path).st_ino
        self.socket.listen()

    def close(self) -> None:
        """Listen no more, and remove the socket, if it is still this one."""
        self.socket.close()
        try:
            if os.lstat(self.path).st_ino == self._inode:
                self.path.unlink()
        except OSError:
            pass  # removed already, or its folder is
        os.close(self._lock)


def peer(connection: socket.socket) -> PeerProcess:
    """The process that connected (SO_PEERCRED). Raises: OSError."""
    said = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    return PeerProcess(*_CREDENTIALS.unpack(said))
