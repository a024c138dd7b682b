"""Intruders: programs that try connections which the firewall must block, and count those that it does not.

An intruder runs at the far end of the uplink, where it knows the site's addresses, or on an instrument's computer. It
makes ordinary TCP connections through the world's own hosts, to a few ports of every other machine, except those that
the policy allows. A machine that answers, even by refusing the connection (RST), was reached: if the firewall drops a
packet nothing answers, and if it rejects one it sends an ICMP error (EHOSTUNREACH).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, Final, TypeAlias

from sim.engine.layers import End, Layers
from sim.faults import port_of
from sim.lab.labfile import Lab
from sim.proxies.kind import proxy_kinds
from sim.units import SECOND_NS
from sim.verdict.found.intrusions import Intrusions
from sim.worlds.shared.site.addresses import (
    BOX,
    COLLECTOR_PORT,
    DATACENTER,
    PROXY,
    box_address,
    instrument_address,
)

TCP_PORTS: Final = (22, 80, COLLECTOR_PORT, *(kind.port for kind in proxy_kinds().values()), 5900)
"""SSH, HTTP, the collector, the proxies, VNC."""
WAIT_SECONDS_MAX: Final = 3.0
"""The timeout of an attempt: long enough for one retransmission of the SYN on a busy line."""

Run: TypeAlias = Callable[[str, Callable[[], Coroutine[Any, Any, None]]], End]
"""Runs a program at the far end of the "uplink", or on "instrument:<port>" while it has power, until its `End`."""


class Intruders:
    """The intruders of one lab. `found` are their attempts and those that were not blocked."""

    def __init__(self, lab: Lab, run: Run) -> None:
        self._lab, self._run = lab, run
        self.running = Layers[str]()
        """The targets at which an intruder runs."""
        self.found = Intrusions()

    def begin(self, target: str, every_ns: int) -> End:
        """Repeat all attempts from `target`, with pauses of `every_ns` ns, until the result is called."""
        end_program = self._run(target, lambda: self._keep_trying(target, every_ns / SECOND_NS))
        remove = self.running.add(target)

        def end() -> None:
            end_program()
            remove()

        return end

    async def _keep_trying(self, target: str, pause_s: float) -> None:
        addresses = forbidden(self._lab, port_of(target))
        while True:
            for address, ports in addresses.items():
                await asyncio.gather(*(self._try(target, address, port) for port in ports))
            await asyncio.sleep(pause_s)

    async def _try(self, target: str, address: str, port: int) -> None:
        answered = await _answers(address, port)
        self.found.tried += 1
        if answered:
            self.found.reached.append(f"{target} reached {address}, tcp/{port}")


def forbidden(lab: Lab, port: int | None) -> dict[str, tuple[int, ...]]:
    """Return the addresses that an intruder on a port (None: outside) must not reach, each with the TCP ports to
    try.
    """
    numbers = [spec.port for spec in lab.instruments]
    addresses = [BOX, *map(box_address, numbers), *(instrument_address(n) for n in numbers if n != port)]
    if port is not None:
        addresses += [DATACENTER, *([PROXY] if lab.uplink.proxy else [])]
    tcp_ports = dict.fromkeys(addresses, TCP_PORTS)
    if port is not None:
        tcp_ports[box_address(port)] = tuple(n for n in TCP_PORTS if n != COLLECTOR_PORT)
    return tcp_ports


async def _answers(address: str, port: int) -> bool:
    loop = asyncio.get_running_loop()
    with suppress(OSError):  # also TimeoutError: no answer, or an ICMP error of a router or firewall
        try:
            async with asyncio.timeout(WAIT_SECONDS_MAX):
                transport, _ = await loop.create_connection(asyncio.Protocol, address, port)
        except (ConnectionRefusedError, ConnectionResetError):
            return True
        transport.close()
        return True
    return False
