"""The box's end of an emulated tunnel."""

from __future__ import annotations

import asyncio
import base64
import binascii
import os
from collections.abc import Awaitable, Callable
from typing import Final

from cryptography.x509.oid import ExtendedKeyUsageOID

from agents.box.tunnel.openvpn import OPEN_SECONDS_MAX
from agents.box.tunnel.tunnel import Credentials, SessionKey, TunnelError
from settings.types import Endpoint, Proxy
from sim.tunnel.certificates import HandshakeError, verify_peer
from sim.tunnel.frames import (
    DATA_BYTES_MAX,
    NONCE_BYTES,
    FrameKind,
    TunnelFrameReader,
    frame,
    hello,
    number_of,
    numbered,
    read_hello,
    transcript,
)
from sim.tunnel.keepalive import Keepalive
from sim.tunnel.path import EmulPath
from wire.dial.dialer import reach
from wire.dial.proxy import ProxyError
from wire.session.grant import Offer

Connect = Callable[[Offer, asyncio.Protocol], Awaitable[object]]
"""Connects a protocol to the desktop of an offer's instrument. Raises: OSError."""
KEY_BYTES: Final = 256
"""The part of a tls-crypt-v2 key that stays at the box; the wrapped key follows."""


class EmulTunnel(asyncio.Protocol):
    """A `Tunnel` whose packets pass through `path`, and then through connections made by `connect`."""

    def __init__(
        self, path: EmulPath, connect: Connect, wall_ns: Callable[[], int], proxy: Proxy | None = None
    ) -> None:
        """`wall_ns` is the box's wall clock."""
        self._path, self._connect, self._wall_ns, self._proxy = path, connect, wall_ns, proxy
        loop = asyncio.get_running_loop()
        self.ended: asyncio.Future[str] = loop.create_future()
        self._up: asyncio.Future[None] = loop.create_future()
        self._transport: asyncio.Transport | None = None
        self._frames = TunnelFrameReader()
        self._nonce = os.urandom(NONCE_BYTES)
        self._credentials: Credentials | None = None
        self._key: SessionKey | None = None
        self._keepalive: Keepalive | None = None
        self._desktops: dict[int, _Desktop] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self.packets = 0
        """Packets that have passed to or from the instrument."""

    @property
    def was_opened(self) -> bool:
        """Whether `open` was called."""
        return self._credentials is not None

    def prepare(self, endpoint: Endpoint) -> None:
        """See `Tunnel.prepare`; the emulation connects in `open`."""

    async def open(self, endpoint: Endpoint, credentials: Credentials, key: SessionKey) -> None:
        """See `Tunnel.open`."""
        self._credentials, self._key = credentials, key
        try:
            async with asyncio.timeout(OPEN_SECONDS_MAX):
                await reach(endpoint, self._proxy, self)
                self._send(frame(FrameKind.RESET, self._nonce + _wrapped(credentials.tls_crypt)))
                await self._up
        except TimeoutError:
            self.lose("timed out")
            raise TunnelError(f"the tunnel was not open after {OPEN_SECONDS_MAX:.0f} s") from None
        except (OSError, ProxyError, ValueError) as error:
            self.lose("failed")
            raise TunnelError(f"{endpoint.host}:{endpoint.port} cannot be reached: {error}") from error
        except BaseException:
            self.lose("failed")
            raise

    async def close(self) -> None:
        """See `Tunnel.close`."""
        self.lose("closed")

    # the connection to the data center

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._keepalive = Keepalive(
            lambda: self._send(frame(FrameKind.PING)), lambda: self.lose("the line is dead")
        )

    def data_received(self, data: bytes) -> None:
        if self._keepalive is not None:
            self._keepalive.received()
        for kind, body in self._frames.read(data):
            if not self.ended.done():
                self._handle(kind, body)

    def connection_lost(self, exc: Exception | None) -> None:
        self.lose("the connection to the data center was lost")

    def pause_writing(self) -> None:
        for desktop in self._desktops.values():
            desktop.pause()

    def resume_writing(self) -> None:
        for desktop in self._desktops.values():
            desktop.resume()

    def _handle(self, kind: FrameKind, body: bytes) -> None:
        match kind:
            case FrameKind.SERVER:
                self._answer(body)
            case FrameKind.UP if not self._up.done():
                self._up.set_result(None)
            case FrameKind.CONNECT | FrameKind.DATA | FrameKind.CLOSE if self._up.done():
                self._packet(kind, *number_of(body))

    def _answer(self, body: bytes) -> None:
        """Verify the data center's end, and sign."""
        assert self._credentials is not None
        assert self._key is not None
        server_nonce, given = body[:NONCE_BYTES], read_hello(body[NONCE_BYTES:])
        name, authority = self._credentials.session, self._credentials.authority
        try:
            proof = transcript(self._nonce, server_nonce, "server"), given[1]
            usage = ExtendedKeyUsageOID.SERVER_AUTH
            verify_peer(given[0], authority, name, usage, proof, self._wall_ns())
            signature = self._key.sign(transcript(self._nonce, server_nonce, "client"))
        except (HandshakeError, TunnelError) as error:
            self.lose(str(error))
            return
        self._send(frame(FrameKind.CLIENT, hello(self._credentials.certificate.encode(), signature)))

    def _send(self, data: bytes) -> None:
        if self._transport is not None and not self.ended.done():
            self._transport.write(data)
            if self._keepalive is not None:
                self._keepalive.sent()

    def lose(self, reason: str = "lost") -> None:
        """End the tunnel, as when its process is killed."""
        if self.ended.done():
            return
        self.ended.set_result(reason)
        if self._key is not None:
            self._key.forget()
        if self._keepalive is not None:
            self._keepalive.stop()
        for desktop in list(self._desktops.values()):
            desktop.close()
        if self._transport is not None:
            self._transport.abort()
        if not self._up.done():
            self._up.set_exception(TunnelError(reason))
            self._up.exception()  # `open` may already have ended

    # packets of the session

    def _packet(self, kind: FrameKind, number: int, data: bytes) -> None:
        offer = self._permitted()
        if offer is None:
            if number in self._desktops:
                self._desktops[number].is_cut = True
            return
        self.packets += 1
        if kind is FrameKind.CONNECT:
            if number not in self._desktops:
                self._desktops[number] = desktop = _Desktop(self, number)
                task = asyncio.get_running_loop().create_task(self._reach(offer, desktop))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
        elif (open_desktop := self._desktops.get(number)) is not None and not open_desktop.is_cut:
            if kind is FrameKind.DATA:
                open_desktop.write(data)
            else:
                open_desktop.close()

    async def _reach(self, offer: Offer, desktop: _Desktop) -> None:
        try:
            await self._connect(offer, desktop)
        except OSError:
            self._desktops.pop(desktop.number, None)
            self.from_desktop(FrameKind.REFUSED, desktop.number)

    def from_desktop(self, kind: FrameKind, number: int, data: bytes = b"") -> bool:
        """Forward data of the instrument if the firewall permits it; return whether it does."""
        if self._permitted() is None:
            return False
        self.packets += 1
        self._send(numbered(kind, number, data))
        return True

    def forget(self, number: int) -> None:
        """Remove a connection to the instrument that has ended."""
        self._desktops.pop(number, None)

    def _permitted(self) -> Offer | None:
        assert self._credentials is not None
        return self._path.offer(bytes.fromhex(self._credentials.session))


class _Desktop(asyncio.Protocol):
    """A connection to the instrument."""

    def __init__(self, tunnel: EmulTunnel, number: int) -> None:
        self._tunnel, self.number = tunnel, number
        self._transport: asyncio.Transport | None = None
        self._is_closed = False
        self.is_cut = False
        """Whether the firewall has dropped a packet: TCP waits for it, and passes nothing that follows."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        if self._is_closed:
            transport.abort()
        else:
            self._send(FrameKind.CONNECTED)

    def data_received(self, data: bytes) -> None:
        for start in range(0, len(data), DATA_BYTES_MAX):
            self._send(FrameKind.DATA, data[start : start + DATA_BYTES_MAX])

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if not self._is_closed:
            self._is_closed = True
            self._send(FrameKind.CLOSE)
        self._tunnel.forget(self.number)

    def _send(self, kind: FrameKind, data: bytes = b"") -> None:
        self.is_cut = self.is_cut or not self._tunnel.from_desktop(kind, self.number, data)

    def write(self, data: bytes) -> None:
        """Send to the instrument."""
        if self._transport is not None:
            self._transport.write(data)

    def close(self) -> None:
        """End the connection."""
        self._is_closed = True
        self._tunnel.forget(self.number)
        if self._transport is not None:
            self._transport.abort()

    def pause(self) -> None:
        """Read nothing more from the instrument."""
        if self._transport is not None:
            self._transport.pause_reading()

    def resume(self) -> None:
        """Read again."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()


def _wrapped(tls_crypt: str) -> bytes:
    """Return the part of the session's tls-crypt-v2 key that the listener expects. Raises: ValueError."""
    try:
        body = "".join(line for line in tls_crypt.splitlines() if not line.startswith("-----"))
        return base64.b64decode(body, validate=True)[KEY_BYTES:]
    except binascii.Error as error:
        raise ValueError(f"not a tls-crypt-v2 key: {error}") from None
