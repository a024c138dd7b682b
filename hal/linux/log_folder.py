"""Read access to log files.

Only root can read the files of the system's audit log. A service with that right (rap-audit.socket) reads them,
so that this program needs no privilege for it.
"""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Final

from hal.disk import DiskError, DiskErrorKind

RESPONSE_SECONDS_MAX: Final = 10.0
CONTENT_BYTES_MAX: Final = 1 << 20
_KINDS: Final = {b"missing\n": DiskErrorKind.MISSING, b"failed\n": DiskErrorKind.IO}


class LinuxLogFolder:
    """The folder of the audit log, for reading. Calls block, and are made by one thread at a time."""

    def __init__(self, service: Path) -> None:
        """`service` is the path of the service's socket."""
        self._service = service
        self._connection: socket.socket | None = None

    def names(self) -> list[str]:
        """Return the names of all files. Raises: DiskError."""
        return self._ask("names").decode().split()

    def size(self, name: str) -> int:
        """Return the size of a file in bytes. Raises: DiskError."""
        return int(self._ask(f"size {name}"))

    def read(self, name: str, offset: int, length: int) -> bytes:
        """Return the bytes at `offset`, all of which are in the file. Raises: DiskError."""
        content = b""
        while len(content) < length:
            wanted = min(length - len(content), CONTENT_BYTES_MAX)
            part = self._ask(f"read {name} {offset + len(content)} {wanted}")
            if not part:
                raise DiskError(DiskErrorKind.MISSING, f"{name}: was truncated or replaced while it was read")
            content += part
        return content

    def close(self) -> None:
        """Close the connection; the next call opens another."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _ask(self, request: str) -> bytes:
        if self._connection is not None:
            try:
                return self._exchange(self._connection, request)
            except OSError:
                self.close()  # the service was restarted
        try:
            self._connection = self._connect()
            return self._exchange(self._connection, request)
        except (OSError, ValueError) as error:
            self.close()
            message = f"{self._service}: no response from the service that reads the audit log: {error}"
            raise DiskError(DiskErrorKind.IO, message) from error

    def _connect(self) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(RESPONSE_SECONDS_MAX)
        try:
            connection.connect(str(self._service))
        except OSError:
            connection.close()
            raise
        return connection

    def _exchange(self, connection: socket.socket, request: str) -> bytes:
        connection.sendall(f"{request}\n".encode())
        head = b""
        while not head.endswith(b"\n"):
            head += self._receive(connection, 1)
        if kind := _KINDS.get(head):
            raise DiskError(kind, f"{self._service}: {request}: {head.decode().strip()}")
        length = int(head)
        if not 0 <= length <= CONTENT_BYTES_MAX:
            raise ValueError(f"a response of {length} bytes")
        content = b""
        while len(content) < length:
            content += self._receive(connection, length - len(content))
        return content

    @staticmethod
    def _receive(connection: socket.socket, length: int) -> bytes:
        if not (received := connection.recv(length)):
            raise ConnectionResetError("the connection was closed")
        return received


class LinuxOwnLogs:
    """A folder with logs that this user may read. Calls block."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def names(self) -> list[str]:
        """Return the names of all files. Raises: DiskError."""
        try:
            return sorted(file.name for file in self._folder.iterdir())
        except OSError as error:
            raise _disk_error(error) from error

    def size(self, name: str) -> int:
        """Return the size of a file in bytes. Raises: DiskError."""
        try:
            return (self._folder / name).stat().st_size
        except OSError as error:
            raise _disk_error(error) from error

    def read(self, name: str, offset: int, length: int) -> bytes:
        """Return the bytes at `offset`, all of which are in the file. Raises: DiskError."""
        try:
            with (self._folder / name).open("rb") as file:
                file.seek(offset)
                content = file.read(length)
        except OSError as error:
            raise _disk_error(error) from error
        if len(content) < length:
            raise DiskError(DiskErrorKind.MISSING, f"{name}: was truncated or replaced while it was read")
        return content


def _disk_error(error: OSError) -> DiskError:
    is_missing = isinstance(error, FileNotFoundError)
    return DiskError(DiskErrorKind.MISSING if is_missing else DiskErrorKind.IO, str(error))
