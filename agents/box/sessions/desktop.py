"""The desktop of one session: the box listens in the tunnel, and shows what the instrument's VNC server shows.

The data center connects once, to the box's own address in the tunnel. The box connects to the instrument itself and
carries the picture through `DesktopBridge`, so that only key and pointer events of the data center's connection reach
the instrument.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, Protocol, TypeAlias

from agents.box.desktop.bridge import DesktopBridge, DesktopEndedError
from settings.profile import DesktopScreen
from wire.desktop.connection import TcpChannel

Accepted: TypeAlias = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
CONNECT_SECONDS_MAX: Final = 10.0
RELEASE_SECONDS_MAX: Final = 0.03
"""Time for releasing keys at the end of a session; an instrument that does not read keeps them pressed."""


@dataclass(frozen=True, slots=True)
class DesktopNetwork:
    """How the box reaches both ends of a desktop."""

    listen: Callable[[Accepted, int], Awaitable[asyncio.AbstractServer]]
    """Listens on the box's address in the tunnel, on this TCP port. Raises: OSError."""
    connect: Callable[[str, int], Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]
    """Connects to an instrument. Raises: OSError."""


class Shared(Protocol):
    """The instrument's service that a session shares, from `start` to `close`."""

    @property
    def chain(self) -> bytes:
        """The hash chain of the data sent to the data center, as in its recording; empty if there is none."""
        ...

    async def start(self) -> None:
        """Listen. Raises: OSError."""
        ...

    def set_control(self, *, has_control: bool) -> None:
        """Give or withdraw control."""
        ...

    async def close(self) -> None:
        """Stop. On return, no data passes."""
        ...


@dataclass(frozen=True, slots=True)
class SharedScreen:
    """The shared service: an instrument's VNC server."""

    address: str
    tcp_port: int
    has_control: bool
    bytes_per_second: float
    """The session's share of the uplink's rate."""
    screen: DesktopScreen | None = None
    """The screen as the profile describes it, with the areas that never leave the box."""
    password: bytes = b""


class SharedDesktop:
    """The desktop of one session, from `start` to `close`. It accepts one connection, and ends with it."""

    def __init__(self, shared: SharedScreen, network: DesktopNetwork, ended: Callable[[str], object]) -> None:
        """`ended` is called with the reason when the desktop can no longer be shown, but not by `close`."""
        self._shared, self._network, self._ended = shared, network, ended
        self._has_control = shared.has_control
        self._server: asyncio.AbstractServer | None = None
        self._datacenter: asyncio.StreamWriter | None = None
        self._bridge: DesktopBridge | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def chain(self) -> bytes:
        """See `Shared.chain`."""
        return self._bridge.chain.value if self._bridge is not None else b""

    async def start(self) -> None:
        """See `Shared.start`."""
        self._server = await self._network.listen(self._accept, self._shared.tcp_port)

    def set_control(self, *, has_control: bool) -> None:
        """Give or withdraw control; without it, all pressed keys and buttons are released."""
        self._has_control = has_control and self._shared.has_control
        if self._bridge is not None:
            self._bridge.set_control(has_control=self._has_control)

    async def close(self) -> None:
        """Stop. On return, no data passes, and pressed keys are released."""
        self._ended = _ignore
        self._stop_listening()
        if self._datacenter is not None:
            self._datacenter.transport.abort()
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task], timeout=RELEASE_SECONDS_MAX)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._task is not None:
            writer.transport.abort()
            return
        self._stop_listening()
        self._datacenter, self._task = writer, asyncio.current_task()
        try:
            await self._carry(TcpChannel(reader, writer))
        finally:
            writer.transport.abort()

    async def _carry(self, datacenter: TcpChannel) -> None:
        """Connect to the instrument, and show its desktop."""
        shared = self._shared
        reason = "the desktop has ended"
        try:
            async with asyncio.timeout(CONNECT_SECONDS_MAX):
                server = TcpChannel(*await self._network.connect(shared.address, shared.tcp_port))
        except OSError as error:
            self._ended(f"the desktop of the instrument cannot be reached: {str(error) or 'no response'}")
            return
        try:
            self._bridge = bridge = DesktopBridge(
                server,
                datacenter,
                bytes_per_second=shared.bytes_per_second,
                has_control=self._has_control,
                screen=shared.screen,
                password=shared.password,
            )
            with suppress(asyncio.CancelledError):
                await bridge.run()
        except DesktopEndedError as error:
            reason = str(error)
        finally:
            server.writer.close()
        self._ended(reason)

    def _stop_listening(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None


def _ignore(_: str) -> None:
    pass
