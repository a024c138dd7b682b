"""The data center's end of one session's tunnel: its keys, its server, and its place at the door."""

from __future__ import annotations

import asyncio
import shutil
from datetime import datetime
from ipaddress import IPv4Address, IPv4Interface
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

from datacenter.sessions.surroundings import EndpointError, Issued
from datacenter.tunnel.door import Door
from datacenter.tunnel.keys import TunnelKeys, make_keys
from datacenter.tunnel.server import PROGRAMS, TunnelServer
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
        door: Door,
        folder: Path,
    ) -> None:
        """`staff` and `folder` as for `TunnelServer`; `authority` is the key that the offer names."""
        self._session, self._authority, self._door = session, authority, door
        self._staff, self._instrument, self._port, self._folder = staff, instrument, port, folder
        self._keys: TunnelKeys | None = None
        self._server: TunnelServer | None = None
        self.ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._is_fenced = all(map(shutil.which, PROGRAMS))

    @property
    def is_fenced(self) -> bool:
        """As `TunnelEndpoint.is_fenced`: the programs exist; once it has started, the firewall was tried."""
        return self._is_fenced and not self.ended.done()

    async def start(self, session_key: bytes, until: datetime) -> Issued:
        """As `TunnelEndpoint.start`."""
        try:
            keys = await make_keys(self._session.hex(), self._authority, session_key, until)
            self._keys = keys
            self._server = server = TunnelServer(
                keys, self._staff, self._instrument, self._port, self._folder
            )
            await server.start()
            self._is_fenced = await server.is_fenced()
        except (OpenVpnError, OSError, ValueError) as error:
            raise EndpointError(str(error)) from error
        server.ended.add_done_callback(self._server_ended)
        self._door.expect(keys.wrapped_key, server.accept)
        return Issued(keys.client_certificate, keys.authority, keys.client_tls_crypt)

    @property
    def pid(self) -> int:
        """The process of the server, for measurements and faults."""
        return self._running().pid

    async def opened(self) -> None:
        """As `TunnelEndpoint.opened`."""
        try:
            await self._running().opened()
        except OpenVpnError as error:
            raise EndpointError(str(error)) from error

    async def connect(self, protocol: asyncio.Protocol) -> None:
        """As `TunnelEndpoint.connect`."""
        await self._running().connect(protocol)

    async def stop(self) -> None:
        """As `TunnelEndpoint.stop`."""
        if self._keys is not None:
            self._door.forget(self._keys.wrapped_key)
        if self._server is not None:
            await self._server.stop()
        self._end("stopped")

    def _running(self) -> TunnelServer:
        assert self._server is not None, "`start` comes first"
        return self._server

    def _server_ended(self, ended: asyncio.Future[str]) -> None:
        if not ended.cancelled():
            self._end(ended.result())

    def _end(self, reason: str) -> None:
        if not self.ended.done():
            self.ended.set_result(reason)
