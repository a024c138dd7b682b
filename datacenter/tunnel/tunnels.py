"""The OpenVPN tunnels of all sessions, which share one listener."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

from datacenter.config import RemoteSessionsConfig
from datacenter.tunnel.endpoint import OpenVpnEndpoint
from datacenter.tunnel.listener import TunnelListener
from datacenter.tunnel.server import CONNECT_ONCE_SECONDS, CONNECT_SECONDS
from wire.session.grant import Offer, SessionService


class Tunnels:
    """The tunnels of a data center by OpenVPN."""

    def __init__(self, settings: RemoteSessionsConfig) -> None:
        self._settings, self._listener = settings, TunnelListener()
        # not below `folder` of [sessions]: the path of a socket has at most 107 bytes
        self._folder = Path(tempfile.gettempdir())

    def make_endpoint(self, offer: Offer, key: EllipticCurvePrivateKey) -> OpenVpnEndpoint:
        """Return the end of a session's tunnel. It reaches the box's own address, where the box shows the desktop."""
        own = self._settings
        connect_s = CONNECT_ONCE_SECONDS if offer.service is SessionService.TCP else CONNECT_SECONDS
        return OpenVpnEndpoint(
            offer.id, key, own.interface, own.box, offer.tcp_port, self._listener, self._folder, connect_s
        )

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[int]:
        """Accept connections within the block; the value is the port. Raises: OSError."""
        loop, own = asyncio.get_running_loop(), self._settings
        server = await loop.create_server(self._listener.accept, own.address, own.port)
        try:
            yield int(server.sockets[0].getsockname()[1])
        finally:
            server.close()
