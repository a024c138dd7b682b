# SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
"""Listening Unix sockets: one program per path, with the right access mode from the beginning.

A killed program leaves its socket file behind. The next program must replace it, but never the socket of a running
program. A lock on the file PATH.lock distinguishes the two: the kernel releases it when the program ends.
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
"""unix(7): `sun_path` has 108 bytes, including the terminating NUL."""
_CREDENTIALS: Final = struct.Struct("3i")


class PeerProcess(NamedTuple):
    """The process at the other end of a connection, at the time it connected."""

    pid: int
    uid: int
    gid: int


class Listener:
    """A bound, listening socket. `close` removes its file."""

    def __init__(self, path: Path, mode: int, gid: int = -1) -> None:
        """Bind to `path` with access mode `mode`; the file belongs to group `gid` (-1: the process's own).

        Raises: OSError; FileExistsError if another program listens there, or if the file is not a socket.
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
            raise FileExistsError(
                f"{self.path}: another program listens on this socket; stop it first"
            ) from None
        try:
            if not stat.S_ISSOCK(os.lstat(self.path).st_mode):
                raise FileExistsError(
                    f"{self.path}: exists and is not a socket; remove it, or configure another path"
                )
            self.path.unlink()  # the lock is free, so the program that created the socket has ended
        except FileNotFoundError:
            pass
        os.fchmod(self.socket.fileno(), mode)  # bind(2) creates the file with at most this mode
        self.socket.bind(os.fspath(self.path))
        if gid != -1:
            os.chown(self.path, -1, gid)
        self.path.chmod(mode)  # restores bits that the umask removed
        self._inode = os.lstat(self.path).st_ino
        self.socket.listen()

    def close(self) -> None:
        """Stop listening, and remove the socket file if it is still this socket's."""
        self.socket.close()
        try:
            if os.lstat(self.path).st_ino == self._inode:
                self.path.unlink()
        except OSError:
            pass  # the file or its directory was already removed
        os.close(self._lock)


def peer(connection: socket.socket) -> PeerProcess:
    """Return the process that connected (SO_PEERCRED). Raises: OSError."""
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    return PeerProcess(*_CREDENTIALS.unpack(credentials))
