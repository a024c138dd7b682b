"""The DNS service of a simulated network, as seen through the resolver of a program.

A healthy service answers at once, and its packets are not counted: a box resolves one name for each connection. If
the service does not answer, the resolver behaves as glibc's does: two attempts of five seconds each.
"""

from __future__ import annotations

import asyncio
import socket
from typing import Final

from sim.engine.layers import End, Layers

GIVE_UP_SECONDS: Final = 10.0
"""The time until a resolver gives up, by the defaults of resolv.conf(5): two attempts of 5 s."""
UNUSED_ADDRESS: Final = "198.51.100.99"
"""An address outside the site that no host has (RFC 5737)."""
_NS: Final = 1_000_000_000


class Names:
    """The name service. It returns names unchanged, since `Network` accepts them as addresses, or UNUSED_ADDRESS."""

    def __init__(self) -> None:
        self._silences = Layers[None](self._follow)
        self._delays_ns = Layers[int](self._follow)
        self._lies = Layers[None](self._follow)
        self.is_healthy = True

    async def resolve(self, name: str) -> str:
        """Resolve a name to an address. Raises: socket.gaierror if the service does not answer in time."""
        if self.is_healthy or name.replace(".", "").isdigit():
            return name
        delay_s = sum(self._delays_ns) / _NS
        if self._silences or delay_s > GIVE_UP_SECONDS:
            await asyncio.sleep(GIVE_UP_SECONDS)
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        await asyncio.sleep(delay_s)
        return UNUSED_ADDRESS if self._lies else name

    def _follow(self) -> None:
        self.is_healthy = not (self._silences or self._delays_ns or self._lies)

    # -- faults

    def stop_answering(self) -> End:
        """Answer no query."""
        return self._silences.add(None)

    def delay(self, delay_ns: int) -> End:
        """Delay each answer by `delay_ns` nanoseconds; several delays add up."""
        return self._delays_ns.add(delay_ns)

    def answer_wrongly(self) -> End:
        """Answer every query with UNUSED_ADDRESS."""
        return self._lies.add(None)
