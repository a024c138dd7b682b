"""Serves the box's disk: `python -m sim.worlds.image.disk.server FILE DISK_SOCKET CONTROL_SOCKET SEED [RECORDING]`.

QEMU connects to DISK_SOCKET (NBD). The world sends requests to CONTROL_SOCKET, one JSON object per line, and gets one
response each: `cut`, `set` and `fail` at once, `tear` when a power cut has interrupted an operation. Writes and
flushes are appended to the file RECORDING, if there is one.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from sim.engine.streams import stream
from sim.worlds.image.disk import nbd
from sim.worlds.image.disk.cache import CachedDisk
from sim.worlds.image.disk.recording import DiskRecorder

SETTINGS: Final = ("holds_ns", "is_read_only", "failing_flushes")
"""Attributes of the disk that `set` can change; `flush_ns` is an attribute of the server."""


class _PowerLost(Exception):
    """The power was cut during an operation, which gets no response."""


class DiskServer:
    """Serves one disk. `recorder` gets each write and flush before it is executed."""

    def __init__(self, disk: CachedDisk, seed: int, recorder: DiskRecorder | None = None) -> None:
        self._disk, self._recorder = disk, recorder
        self._random = stream(seed, "disk")
        self._client: asyncio.StreamWriter | None = None
        self.flush_ns = 0
        """The duration of each flush in ns."""
        self._operations_until_cut = 0
        self._torn = asyncio.Event()

    async def serve_disk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve QEMU until it ends or the power is cut."""
        self._client = writer
        try:
            with suppress(_PowerLost):
                await nbd.serve(reader, writer, self._disk.size, self._execute)
        finally:
            writer.close()

    async def _execute(self, request: nbd.DiskRequest) -> bytes:
        if request.kind == nbd.READ:
            return self._disk.read(request.offset, request.length)
        if self._recorder is not None and request.kind in (nbd.WRITE, nbd.FLUSH):
            self._recorder.add(request)
        if self._operations_until_cut:
            self._operations_until_cut -= 1
            if not self._operations_until_cut:
                if request.kind == nbd.WRITE:
                    self._disk.tear(request.offset, request.data, self._random)
                self._torn.set()
                raise _PowerLost
        if request.kind == nbd.WRITE:
            self._disk.write(request.offset, request.data, fua=request.fua)
        else:
            await asyncio.sleep(self.flush_ns / 1e9)
            self._disk.flush()
        return b""

    async def serve_control(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the world's requests until it disconnects."""
        with suppress(ConnectionError):
            while line := await reader.readline():
                writer.write(json.dumps(await self.control(json.loads(line))).encode() + b"\n")
                await writer.drain()
        writer.close()

    async def control(self, request: Mapping[str, Any]) -> Any:
        """Execute a request of the world and return the response."""
        if request["do"] == "cut":
            if self._client is not None:
                self._client.transport.abort()
            self._operations_until_cut = 0
            return self._disk.cut_power(self._random)
        if request["do"] == "tear":
            self._torn.clear()
            self._operations_until_cut = request["operation"]
            await self._torn.wait()
            return None
        if request["do"] == "fail":
            reads = request["requests"] == "reads"
            failing = self._disk.failing_reads if reads else self._disk.failing_writes
            failing.times += request["times"]
            failing.affected = range(request["start"], request["stop"])
            return None
        assert request["do"] == "set" and request["name"] in (*SETTINGS, "flush_ns")
        setattr(self if request["name"] == "flush_ns" else self._disk, request["name"], request["value"])
        return None


async def _main(file: str, disk_socket: str, control_socket: str, seed: str, recording: str = "") -> None:
    fd = os.open(file, os.O_RDWR | os.O_CLOEXEC)
    recorder = DiskRecorder(Path(recording), time.time_ns) if recording else None
    server = DiskServer(CachedDisk(fd, time.monotonic_ns), int(seed), recorder)
    accept: Callable[..., Any] = server.serve_control
    await asyncio.start_unix_server(server.serve_disk, disk_socket)
    part = f"{control_socket}.part"
    await asyncio.start_unix_server(accept, part)
    os.rename(part, control_socket)  # noqa: PTH104 - when it exists, both sockets accept connections
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_main(*sys.argv[1:]))
