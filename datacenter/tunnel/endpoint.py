"""The data center's end of one session's tunnel: its keys, its server, and its registration at the listener."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Sequence
from datetime import datetime
from ipaddress import IPv4Address, IPv4Interface
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

from datacenter.sessions.surroundings import EndpointError, TunnelCredentials
from datacenter.tunnel.keys import TunnelKeys, make_keys, make_tls_crypt
from datacenter.tunnel.listener import TunnelListener
from datacenter.tunnel.server import CONNECT_SECONDS, PROGRAMS, TunnelServer
from wire.openvpn.program import OpenVpnError


class OpenVpnEndpoint:
    """A `TunnelEndpoint` by OpenVPN."""

    def __init__(
        self,
        session: bytes,
        authority: EllipticCurvePrivateKey,
        staff: IPv4Interface,
        instrument: IPv4Address,
        port: int,
        listener: TunnelListener,
        folder: Path,
        connect_s: Sequence[float] = CONNECT_SECONDS,
    ) -> None:
        """`authority` is the key that the offer names. `TunnelServer` describes `staff`, `folder` and `connect_s`."""
        self._session, self._authority, self._listener = session, authority, listener
        self._staff, self._instrument, self._port, self._folder = staff, instrument, port, folder
        self._connect_s = connect_s
        self._tls_crypt = asyncio.get_running_loop().create_task(make_tls_crypt(session.hex()))
        """Generated before the grant, because generation starts OpenVPN twice; accepted only after the grant."""
        self._keys: TunnelKeys | None = None
        self._server: TunnelServer | None = None
        self._starting: asyncio.Task[None] | None = None
        self.ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._is_fenced = all(map(shutil.which, PROGRAMS))

    @property
    def is_fenced(self) -> bool:
        """See `TunnelEndpoint.is_fenced`; before the start, whether the required programs are installed."""
        return self._is_fenced and not self.ended.done()

    async def start(self, session_key: bytes, until: datetime) -> TunnelCredentials:
        """See `TunnelEndpoint.start`."""
        try:
            tls_crypt = await self._tls_crypt
            keys = make_keys(self._session.hex(), self._authority, session_key, until, tls_crypt)
        except (OpenVpnError, OSError, ValueError) as error:
            raise EndpointError(str(error)) from error
        self._keys = keys
        self._server = TunnelServer(
            keys, self._staff, self._instrument, self._port, self._folder, self._connect_s
        )
        self._starting = asyncio.get_running_loop().create_task(self._start(self._server))
        self._listener.expect(keys.wrapped_key, self._accept)
        return TunnelCredentials(keys.client_certificate, keys.server_authority, keys.client_tls_crypt)

    async def _start(self, server: TunnelServer) -> None:
        """Start the server while the certificate is being sent to the box. Raises: OpenVpnError; OSError."""
        await server.start()
        self._is_fenced = await server.is_fenced()
        server.ended.add_done_callback(self._server_ended)

    async def _accept(self, protocol: asyncio.Protocol) -> None:
        """Forward the box's connection to the server once the firewall is in force. Raises: OSError."""
        await self._started()
        if not self.is_fenced:
            raise OSError("the firewall of the tunnel's namespace is not in force")
        await self._running().accept(protocol)

    async def _started(self) -> None:
        """Wait for the start of the server. Raises: OSError."""
        starting = self._starting
        assert starting is not None, "`start` was called"
        await asyncio.wait([starting])
        if starting.cancelled():
            raise OSError("stopped")
        if (error := starting.exception()) is not None:
            raise OSError(str(error)) from error

    @property
    def pid(self) -> int:
        """The process of the server, for measurements and faults."""
        return self._running().pid

    async def opened(self) -> None:
        """See `TunnelEndpoint.opened`."""
        try:
            await self._started()
            await self._running().opened()
        except (OpenVpnError, OSError) as error:
            raise EndpointError(str(error)) from error

    async def connect(self, protocol: asyncio.Protocol) -> None:
        """See `TunnelEndpoint.connect`."""
        await self._running().connect(protocol)

    async def stop(self) -> None:
        """See `TunnelEndpoint.stop`."""
        if self._keys is not None:
            self._listener.forget(self._keys.wrapped_key)
        await asyncio.gather(self._tls_crypt, return_exceptions=True)
        if self._starting is not None:
            self._starting.cancel()
            await asyncio.gather(self._starting, return_exceptions=True)
        if self._server is not None:
            await self._server.stop()
        self._end("stopped")

    def _running(self) -> TunnelServer:
        assert self._server is not None, "`start` was called"
        return self._server

    def _server_ended(self, ended: asyncio.Future[str]) -> None:
        if not ended.cancelled():
            self._end(ended.result())

    def _end(self, reason: str) -> None:
        if not self.ended.done():
            self.ended.set_result(reason)
