"""Controls the box's disk: the file, the process that serves it, and the requests to that process."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
from pathlib import Path
from typing import Any, Final, Literal

from sim.engine.layers import End, Layers
from sim.worlds.kernel.namespaces.host import NamespaceHost
from sim.worlds.kernel.namespaces.process import LabProcess

FOLDER: Final = Path("/var/tmp")  # noqa: S108 - for files without names and temporary folders
"""The folder of the disk's file, which is too large for the lab's folder in memory."""
_ANSWER_SECONDS_MAX: Final = 120.0
_START_SECONDS_MAX: Final = 120.0


def unnamed_file(size: int) -> int:
    """Create a sparse file of `size` bytes that is deleted when no process has it open. Raises: OSError."""
    fd = os.open(FOLDER, os.O_RDWR | os.O_TMPFILE | os.O_CLOEXEC, 0o600)
    os.truncate(fd, size)
    return fd


class GuestDisk:
    """A disk of `size` bytes; its medium, `file`, may be accessed directly while the machine is off."""

    def __init__(self, host: NamespaceHost, folder: Path, size: int, seed: int) -> None:
        self._fd = unnamed_file(size)
        self.file = Path(f"/proc/{os.getpid()}/fd/{self._fd}")
        self.socket = folder / "disk.sock"
        self._control = folder / "disk-control.sock"
        self._host, self._seed = host, seed
        self._process: LabProcess | None = None
        self._requests: socket.socket | None = None
        self._flush_ns = Layers[int](lambda: self._set("flush_ns", max(self._flush_ns, default=0)))
        self._holds_ns = Layers[int](lambda: self._set("holds_ns", max(self._holds_ns, default=0)))

    @property
    def descriptor(self) -> int:
        """The descriptor of the open file."""
        return self._fd

    async def serve(self) -> None:
        """Start the process that serves the disk. Raises: RuntimeError if it does not start."""
        command = [sys.executable, "-m", "sim.worlds.image.disk.server"]
        arguments = [str(self.file), str(self.socket), str(self._control), str(self._seed)]
        self._process = self._host.spawn([*command, *arguments])
        async with asyncio.timeout(_START_SECONDS_MAX):
            while not self._control.exists():
                if self._process.returncode is not None:
                    raise RuntimeError(f"the disk's process ended at once: {self._process.output()}")
                await asyncio.sleep(0.02)
        self._requests = self._connect()

    def _connect(self) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(_ANSWER_SECONDS_MAX)
        connection.connect(str(self._control))
        return connection

    def _send_request(self, **request: object) -> Any:
        assert self._requests is not None, "the disk is not served"
        self._requests.sendall(json.dumps(request).encode() + b"\n")
        with self._requests.makefile("rb") as answers:
            return json.loads(answers.readline())

    def _set(self, name: str, value: object) -> None:
        self._send_request(do="set", name=name, value=value)

    def cut_power(self) -> tuple[int, int]:
        """Discard unflushed sectors at random; return the numbers of sectors kept and lost."""
        kept, lost = self._send_request(do="cut")
        return kept, lost

    # -- faults: see `sim.faults.world.MachineBoxPart`

    def slow_down(self, flush_ns: int) -> End:
        """Make each flush take `flush_ns`; the longest of several times applies."""
        return self._flush_ns.add(flush_ns)

    def lie_about_flushes(self, holds_ns: int) -> End:
        """Acknowledge flushes, but keep data written in the last `holds_ns` in the cache; the longest applies."""
        return self._holds_ns.add(holds_ns)

    def set_read_only(self, is_read_only: bool) -> None:
        """Reject every write from now on, or accept writes again."""
        self._set("is_read_only", is_read_only)

    def fail_flushes(self, times: int) -> None:
        """Make the next `times` flushes fail."""
        self._set("failing_flushes", times)

    def fail_requests(self, kind: Literal["reads", "writes"], times: int, affected: range) -> None:
        """Make `times` more reads or writes fail that access any of the bytes `affected`."""
        self._send_request(do="fail", requests=kind, times=times, start=affected.start, stop=affected.stop)

    async def torn(self, operation: int) -> None:
        """Wait for the `operation`-th write or flush from now on, which a power cut interrupts."""
        reader, writer = await asyncio.open_unix_connection(str(self._control))
        try:
            writer.write(json.dumps({"do": "tear", "operation": operation}).encode() + b"\n")
            await reader.readline()
        finally:
            writer.close()
