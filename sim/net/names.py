"""The name service of a simulated network, as a program's resolver sees it.

A healthy one answers at once and its packets are not counted: a box asks it once a connection. What the resolver does
with one that does not answer is what glibc's does: it asks twice, waits five seconds each time, and gives up.
"""

from __future__ import annotations

import asyncio
import socket
from typing import Final

from sim.engine.layers import End, Layers

GIVE_UP_SECONDS: Final = 10.0
"""resolv.conf(5): a timeout of 5 s, two attempts."""
NOBODY: Final = "198.51.100.99"
"""An address outside the site that nobody has."""
_NS: Final = 1_000_000_000


class Names:
    """The name service. Numeric addresses need none."""

    def __init__(self) -> None:
        self._silences = Layers[None](self._follow)
        self._delays_ns = Layers[int](self._follow)
        self._lies = Layers[None](self._follow)
        self.is_healthy = True

    async def resolve(self, name: str) -> str:
        """The address to connect to. Raises socket.gaierror when there is no answer."""
        if self.is_healthy or name.replace(".", "").isdigit():
            return name
        delay_s = sum(self._delays_ns) / _NS
        if self._silences or delay_s > GIVE_UP_SECONDS:
            await asyncio.sleep(GIVE_UP_SECONDS)
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        await asyncio.sleep(delay_s)
        return NOBODY if self._lies else name

    def _follow(self) -> None:
        self.is_healthy = not (self._silences or self._delays_ns or self._lies)

    # -- what happens to it

    def fall_silent(self) -> End:
        """Answer nothing."""
        return self._silences.add(None)

    def delay(self, delay_ns: int) -> End:
        """Take so long to answer; several times add up."""
        return self._delays_ns.add(delay_ns)

    def lie(self) -> End:
        """Answer with an address that nobody has."""
        return self._lies.add(None)
