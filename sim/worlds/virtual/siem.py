"""The SIEM of a lab in the virtual world: a receiver of RFC 5425 on a host of its own."""

from __future__ import annotations

import asyncio
import re
from typing import Final

from sim.engine.layers import End, Layers
from sim.net.host import Network, SimHost
from sim.net.loop import SimLoop
from sim.worlds.shared.addresses import SIEM, SIEM_NAME, SIEM_PORT
from wire.tls.context import Identity, server_context

_MESSAGE: Final = re.compile(rb"(\d+) <\d+>1 ")
_IDENTITY: Final = re.compile(rb'\[rap@32473 id="([^"]+)"')


class _Receiver(asyncio.Protocol):
    """Keeps the ids of the messages of a connection (RFC 5425, 4.3: octet counting)."""

    def __init__(self, received: list[str]) -> None:
        self._received, self._buffer = received, b""

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while found := _MESSAGE.match(self._buffer):
            start = found.end(1) + 1
            end = start + int(found[1])
            if len(self._buffer) < end:
                return
            message, self._buffer = self._buffer[start:end], self._buffer[end:]
            identity = _IDENTITY.search(message)
            assert identity, "each message of the data center has an id"
            self._received.append(identity[1].decode())


class VirtualSiem:
    """The SIEM, which keeps what it has received while it has no power."""

    def __init__(self, loop: SimLoop, network: Network, identity: Identity) -> None:
        self._loop, self._identity = loop, identity
        self.host = SimHost(network, SIEM_NAME, SIEM)
        self.received: list[str] = []
        """The ids of all messages, in the order of arrival."""
        self._holds = Layers[None](self._follow)

    def start(self) -> None:
        """Switch it on."""
        self.host.power_on().run(self._loop, self._serve())

    def hold_down(self) -> End:
        """Cut its power until every hold has ended."""
        return self._holds.add(None)

    def _follow(self) -> None:
        is_on = self.host.incarnation is not None
        if self._holds and is_on:
            self.host.power_off()
        elif not self._holds and not is_on:
            self.start()

    async def _serve(self) -> None:
        tls = server_context(self._identity)
        await self._loop.create_server(lambda: _Receiver(self.received), SIEM_NAME, SIEM_PORT, ssl=tls)
