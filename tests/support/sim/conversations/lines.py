"""Real lines between the script of a recorded conversation and the box: a TCP connection on loopback, and a pty."""

from __future__ import annotations

import asyncio
import os
import tty
from contextlib import suppress

from msgspec.structs import replace

from agents.box.intake.adapter import close, line_settings, listen
from hal.linux.serial import LinuxSerialPort
from settings.adapted import SerialLineSettings
from sim.conversations.casefile import ScriptStep
from sim.conversations.port import ConversationPort
from tests.support.eventually import eventually

LINE = line_settings(SerialLineSettings(port=1))
WAIT_S_MAX = 0.2
ANSWER_S_MAX = 60.0


def without_long_waits(step: ScriptStep) -> ScriptStep:
    """Return the step with a short wait, or with a long time for the answer, because the machine may be busy.

    Tests in virtual time check the recorded times.
    """
    if step.kind == "wait":
        return replace(step, after_s=min(step.after_s, WAIT_S_MAX))
    return replace(step, before_s=ANSWER_S_MAX)


class TcpScriptLine:
    """An instrument's end of a TCP connection to a listener of the box."""

    def __init__(
        self, servers: list[asyncio.Server], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._servers, self._reader, self._writer = servers, reader, writer
        self.answers, self.arrived = bytearray(), asyncio.Event()
        self._receiving = asyncio.ensure_future(self._receive())

    async def _receive(self) -> None:
        with suppress(ConnectionResetError):
            while data := await self._reader.read(4096):
                self.answers += data
                self.arrived.set()

    def send(self, data: bytes) -> None:
        """See `ScriptLine`."""
        self._writer.write(data)

    async def close(self) -> None:
        """See `ScriptLine`."""
        self._writer.write_eof()
        await self._receiving
        self._writer.close()
        for server in self._servers:
            await close(server)


async def connect_by_tcp(port: ConversationPort) -> TcpScriptLine:
    """Connect an instrument to the box over loopback."""
    server = await listen(port.adapter.connected, "127.0.0.1", 0)
    tcp_port = server.sockets[0].getsockname()[1]
    return TcpScriptLine([server], *await asyncio.open_connection("127.0.0.1", tcp_port))


class PtyScriptLine:
    """An instrument's end of a pty, whose other end is a serial port of the box."""

    def __init__(self, port: ConversationPort) -> None:
        self._source = port.source
        self._fd, slave = os.openpty()
        tty.setraw(slave)
        os.set_blocking(self._fd, False)
        serial = LinuxSerialPort("serial1", os.ttyname(slave))
        self._serving = asyncio.ensure_future(port.adapter.serve_serial(serial, LINE))
        self._slave = slave
        self.answers, self.arrived = bytearray(), asyncio.Event()
        asyncio.get_running_loop().add_reader(self._fd, self._receive)

    def _receive(self) -> None:
        self.answers += os.read(self._fd, 4096)
        self.arrived.set()

    def send(self, data: bytes) -> None:
        """See `ScriptLine`."""
        assert os.write(self._fd, data) == len(data)

    async def close(self) -> None:
        """See `ScriptLine`. The box detects that the port has failed."""
        asyncio.get_running_loop().remove_reader(self._fd)
        os.close(self._slave)
        os.close(self._fd)
        await eventually(lambda: not self._source.is_connected)
        self._serving.cancel()
        await asyncio.wait((self._serving,))


async def connect_by_pty(port: ConversationPort) -> PtyScriptLine:
    """Connect an instrument to the box by a pty."""
    line = PtyScriptLine(port)
    await eventually(lambda: port.source.is_connected)
    return line
