"""Remote sessions in the image world: the person's browser uses the image's own web server, over TLS."""

from __future__ import annotations

import asyncio
from pathlib import Path
from ssl import create_default_context

from agents.provision.page import PAGE
from sim.worlds.kernel.namespaces.host import NamespaceHost
from sim.worlds.kernel.sessions import REPLY_BYTES_MAX, KernelPage
from sim.worlds.kernel.supervision.real_time import acting
from sim.worlds.shared.site.addresses import BOX_NAME, box_address
from wire.http.connection import ClientConnection

_CONNECT_SECONDS_MAX = 10.0


def page_at_port(host: NamespaceHost, port: int, authorities: Path) -> KernelPage:
    """Return the page of a port as used by a browser on the instrument `host` that trusts `authorities`."""
    context, address = create_default_context(cafile=authorities), box_address(port)

    async def connect() -> ClientConnection:
        token = acting.set(host)
        try:
            async with asyncio.timeout(_CONNECT_SECONDS_MAX):  # a box without power does not answer
                _, connection = await asyncio.get_running_loop().create_connection(
                    lambda: ClientConnection(f"{address}:{PAGE}", REPLY_BYTES_MAX),
                    address,
                    PAGE,
                    ssl=context,
                    server_hostname=BOX_NAME,
                )
        finally:
            acting.reset(token)
        assert isinstance(connection, ClientConnection)
        return connection

    return KernelPage(connect)
