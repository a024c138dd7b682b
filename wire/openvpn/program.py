"""A running OpenVPN program whose management interface is a private Unix socket.

The options are passed on its standard input, so that keys are in no file. OpenVPN connects to the management socket,
and exits immediately when that connection ends (`management-client`), which it also does when this process is killed.
A tunnel therefore never outlives the program that is responsible for it.
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from wire.openvpn.management import VERSION, Event, Failed, ManagementError, ManagementReader
from wire.openvpn.options import management

PROGRAM: Final = "openvpn"
LOG_LINES: Final = 40
END_SECONDS: Final = 1.0
"""Time after which a program that does not exit is killed."""
_CREDENTIALS: Final = struct.Struct("3i")


class OpenVpnError(Exception):
    """OpenVPN cannot be started, or has ended."""


class OpenVpn:
    """The program. `handle` gets each event of its management interface, and returns the commands that answer it."""

    def __init__(self, handle: Callable[[Event], bytes], folder: Path) -> None:
        """A private folder for the management socket is made in `folder`, and removed when the program has ended."""
        self._handle, self._parent = handle, folder
        self._folder: TemporaryDirectory[str] | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._listener: asyncio.AbstractServer | None = None
        self._connection: _Connection | None = None
        self._log: deque[str] = deque(maxlen=LOG_LINES)
        self._management = ""
        self._reader: asyncio.Task[None] | None = None
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Set when the program has ended."""

    @property
    def pid(self) -> int:
        """The id of the process."""
        assert self._process is not None
        return self._process.pid

    @property
    def log(self) -> list[str]:
        """The last lines of its log."""
        return list(self._log)

    async def start(self, options: str, prefix: Sequence[str] = ()) -> None:
        """Start the program as `load` does, and give it its options. Raises: OpenVpnError."""
        await self.load(prefix)
        self.configure(options)

    async def load(self, prefix: Sequence[str] = ()) -> None:
        """Start the program, by the command `prefix` if there is one, which must execute it in the same process.

        It then waits for its options, and does nothing else. Raises: OpenVpnError.
        """
        self._folder = TemporaryDirectory(prefix="openvpn-", dir=self._parent)
        path = Path(self._folder.name) / "management"
        try:
            self._management = management(path)
            loop = asyncio.get_running_loop()
            self._listener = await loop.create_unix_server(self._accept, str(path), backlog=1)
            self._process = await asyncio.create_subprocess_exec(
                *prefix,
                *(PROGRAM, "--config", "stdin"),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                env={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"},
            )
        except (OSError, ValueError) as error:
            self._clean()
            raise OpenVpnError(f"OpenVPN cannot be started: {error}") from error
        except BaseException:  # cancelled
            self._clean()
            raise
        self._reader = asyncio.create_task(self._read())

    def configure(self, options: str) -> None:
        """Give the program its options, with which it begins to work."""
        process = self._process
        assert process is not None, "`load` comes first"
        assert process.stdin is not None
        process.stdin.write((options + self._management).encode())  # nothing happens if it has ended
        process.stdin.close()

    async def stop(self) -> None:
        """End the program; it has ended on return. Its TUN device passes no packet from then on."""
        self.disconnect()
        process = self._process
        if process is None:
            return
        with suppress(ProcessLookupError):
            process.terminate()
        try:
            async with asyncio.timeout(END_SECONDS):
                await asyncio.shield(self.ended)
        except TimeoutError:
            with suppress(ProcessLookupError):
                process.kill()
            await self.ended

    def disconnect(self) -> None:
        """Close the management connection, so that the program exits."""
        if self._connection is not None:
            self._connection.close()

    def send(self, command: bytes) -> None:
        """Send a command. It is dropped if the program has ended."""
        if self._connection is not None:
            self._connection.send(command)

    def _accept(self) -> asyncio.Protocol:
        return _Connection(self)

    def connected(self, connection: _Connection, pid: int) -> bool:
        """Accept the connection if it is the program's own, and the first; return whether it was accepted."""
        if self._connection is not None or self._process is None or pid != self._process.pid:
            return False
        self._connection = connection
        return True

    def received(self, event: Event) -> bytes:
        """Pass on an event."""
        if isinstance(event, Failed):
            self._log.append(event.text)
        return self._handle(event)

    async def _read(self) -> None:
        """Keep the end of the log until the program ends."""
        process = self._process
        assert process is not None
        assert process.stdout is not None
        try:
            while line := await _line(process.stdout):
                self._log.append(line.decode("utf-8", "replace").rstrip())
            await process.wait()
        finally:
            self._clean()
            if not self.ended.done():
                self.ended.set_result(None)

    def _clean(self) -> None:
        if self._listener is not None:
            self._listener.close()
        self.disconnect()
        if self._folder is not None:
            self._folder.cleanup()


class _Connection(asyncio.Protocol):
    """The management connection."""

    def __init__(self, program: OpenVpn) -> None:
        self._program, self._reader = program, ManagementReader()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        credentials = transport.get_extra_info("socket").getsockopt(
            socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size
        )
        if not self._program.connected(self, _CREDENTIALS.unpack(credentials)[0]):
            transport.abort()
            return
        self._transport = transport
        transport.write(f"version {VERSION}\nstate on\n".encode())

    def data_received(self, data: bytes) -> None:
        if self._transport is None:
            return
        try:
            for event in self._reader.feed(data):
                self._transport.write(self._program.received(event))
        except ManagementError:
            self.close()

    def send(self, command: bytes) -> None:
        """Send a command."""
        if self._transport is not None:
            self._transport.write(command)

    def close(self) -> None:
        """Close the connection."""
        if self._transport is not None:
            self._transport.close()
            self._transport = None


async def _line(reader: asyncio.StreamReader) -> bytes:
    """Return the next line, a note in place of one that is too long, or nothing at the end."""
    try:
        return await reader.readline()
    except ValueError:
        return b"(a line that is too long)\n"
