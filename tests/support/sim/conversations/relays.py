"""A box that observes a recorded conversation between its script and the laboratory's host, over TCP and ptys.

The host is a box in the role of receiver; the script of the conversation checks its answers.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import sys
import termios
import tty
from collections.abc import Awaitable, Callable, Sequence
from random import Random

from msgspec.structs import replace

from agents.box.intake.adapter import listen
from hal.emul.disk import EmulDisk
from hal.linux.serial import LinuxSerialPort
from settings.adapted import AdaptedPort, LaboratoryHost, SerialLineSettings
from sim.conversations.casefile import Conversation
from sim.conversations.machine import DISK_BYTES
from sim.conversations.player import ScriptLine, clock_of
from sim.conversations.port import ConversationPort
from tests.support.eventually import eventually
from tests.support.sim.conversations.lines import LINE, TcpScriptLine


class ObservingBox:
    """Connects the script of a case with the host, and relays or taps the connection with a box that observes it."""

    def __init__(self, case: Conversation) -> None:
        self._case = case
        self.port = ConversationPort(case, EmulDisk(DISK_BYTES, Random(1)), clock_of(case), Random(1))
        self._ptys: list[Pty] = []

    async def pass_through_by_tcp(self, host: ConversationPort) -> ScriptLine:
        """Join script, box and host by two TCP connections on loopback."""
        server = await listen(host.adapter.connected, "127.0.0.1", 0)
        relay = await self.relay_to(server.sockets[0].getsockname()[1])
        streams = await asyncio.open_connection("127.0.0.1", relay.sockets[0].getsockname()[1])
        return TcpScriptLine([relay, server], *streams)

    async def relay_to(self, tcp_port: int) -> asyncio.Server:
        """Listen on loopback as the pass-through to a host on another TCP port."""
        host = LaboratoryHost(address="127.0.0.1", tcp_port=tcp_port)
        role = self.port.role(self._site(role="pass-through", host=host), {})
        assert role.connected
        return await listen(role.connected, "127.0.0.1", 0)

    async def pass_through_by_pty(self, host: ConversationPort) -> ScriptLine:
        """Join script, box and host by two serial lines."""
        instrument, left, right = self._pty(), self._pty(), self._pty()
        left.wire(right)
        right.wire(left)
        serials = [instrument.serial(1), left.serial(2)]
        return await self._serial("pass-through", host, right, instrument, serials)

    async def listen_to_both(self, host: ConversationPort) -> ScriptLine:
        """Join script and host by a serial line; the box has a tap on each direction."""
        return await self._listener(host, [self._pty(), self._pty()])

    async def listen_to_the_instrument(self, host: ConversationPort) -> ScriptLine:
        """Join script and host by a serial line; the box has a tap on the instrument's direction only."""
        return await self._listener(host, [self._pty()])

    async def _listener(self, host: ConversationPort, taps: list[Pty]) -> ScriptLine:
        at_host = self._pty()
        serials = [tap.serial(number) for number, tap in enumerate(taps, 1)]
        return await self._serial("listener", host, at_host, at_host, serials, taps)

    async def _serial(
        self,
        role: str,
        host: ConversationPort,
        at_host: Pty,
        script: Pty,
        serials: list[LinuxSerialPort],
        taps: Sequence[Pty] = (),
    ) -> ScriptLine:
        lines = [SerialLineSettings(port=number) for number in range(1, len(serials) + 1)]
        site = self._site(role=role, serial=lines[0], host_serial=lines[1] if lines[1:] else None)
        serve = self.port.role(site, dict(enumerate(serials, 1))).serve_serial
        assert serve
        serving = [
            asyncio.ensure_future(serve()),
            asyncio.ensure_future(host.adapter.serve_serial(at_host.serial(9), LINE)),
        ]
        await eventually(lambda: host.source.is_connected and self.port.source.is_connected)

        async def end() -> None:
            await eventually(lambda: all(pty.is_read for pty in self._ptys))
            for pty in self._ptys:
                pty.close()
            await eventually(lambda: not (host.source.is_connected or self.port.source.is_connected))
            for task in serving:
                task.cancel()
            await asyncio.wait(serving)

        return _PtyScript(script, taps, end)

    def _site(self, **more: object) -> AdaptedPort:
        return replace(self._case.config, **more)

    def _pty(self) -> Pty:
        self._ptys.append(Pty())
        return self._ptys[-1]


class Pty:
    """A pty: its slave is the serial port of a program, its master the end of the cable."""

    def __init__(self) -> None:
        self._master, self._slave = os.openpty()
        tty.setraw(self._slave)
        os.set_blocking(self._master, False)

    def serial(self, number: int) -> LinuxSerialPort:
        """Return the program's serial port."""
        return LinuxSerialPort(f"serial{number}", os.ttyname(self._slave))

    def wire(self, *others: Pty) -> None:
        """Forward to `others` the bytes that the program sends."""
        self.on_data(lambda data: [other.send(data) for other in others])

    def on_data(self, take: Callable[[bytes], object]) -> None:
        """Call `take` with the bytes that the program sends."""
        asyncio.get_running_loop().add_reader(self._master, lambda: take(os.read(self._master, 4096)))

    def send(self, data: bytes) -> None:
        """Send bytes to the program."""
        assert os.write(self._master, data) == len(data)

    @property
    def is_read(self) -> bool:
        """Whether the program has read all bytes that were sent to it."""
        return not int.from_bytes(fcntl.ioctl(self._slave, termios.FIONREAD, bytes(4)), sys.byteorder)

    def close(self) -> None:
        """Unplug the cable: the program's port fails."""
        asyncio.get_running_loop().remove_reader(self._master)
        os.close(self._slave)
        os.close(self._master)


class _PtyScript:
    """The script's end of a serial line; the first tap gets the bytes that it sends, the second those it receives."""

    def __init__(self, pty: Pty, taps: Sequence[Pty], end: Callable[[], Awaitable[None]]) -> None:
        self._pty, self._taps, self._end = pty, taps, end
        self.answers, self.arrived = bytearray(), asyncio.Event()
        pty.on_data(self._receive)

    def _receive(self, data: bytes) -> None:
        for tap in self._taps[1:]:
            tap.send(data)
        self.answers += data
        self.arrived.set()

    def send(self, data: bytes) -> None:
        """See `ScriptLine`."""
        for tap in self._taps[:1]:
            tap.send(data)
        self._pty.send(data)

    async def close(self) -> None:
        """See `ScriptLine`."""
        await self._end()
