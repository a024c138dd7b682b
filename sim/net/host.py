"""Hosts: machines on the simulated network, each living through one incarnation after another.

Whatever code a machine runs, it runs in a context that names the machine's present incarnation. When the power
goes, that incarnation is dead for good: its disk and its connections no longer do anything, so that no `finally`
block and no late callback can act for a machine that is off.

A host may have a firewall. As with netfilter, it decides on every segment that comes in or leaves. TCP knows nothing
of it but the error of a segment that it rejected.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Coroutine
from contextvars import Context, ContextVar, copy_context
from typing import Any, Protocol, TypeAlias
from weakref import WeakValueDictionary

from sim.engine.loop import VirtualTimeLoop
from sim.net.link import Link
from sim.net.names import Names
from sim.net.segment import ACK, RST, SYN, TcpSegment, Unreachable, Verdict
from sim.net.tcp import TcpEndpoint
from sim.net.transport import SimListener, SimTransport

current: ContextVar[Incarnation] = ContextVar("current")
"""The incarnation on whose behalf the running code acts."""


class PacketFilter(Protocol):
    """A host's packet filter, asked about every segment."""

    def receive(self, segment: TcpSegment, link: Link) -> Verdict:
        """The verdict on a segment that came in over `link`."""
        ...

    def send(self, segment: TcpSegment, link: Link) -> Verdict:
        """The verdict on a segment of the host's own that is to leave over `link`."""
        ...


_Flow: TypeAlias = tuple[Link, int, int]
"""A connection as one machine has it: the link to the other one, the local port, the remote port."""


class Network:
    """Who can be reached under which address, over which link."""

    def __init__(self, wall_ns: Callable[[], int] | None = None) -> None:
        """`wall_ns` is the hosts' wall clock, in nanoseconds since 1970; None: OpenSSL's own."""
        self.wall_ns = wall_ns
        self.hosts: dict[str, SimHost] = {}
        self.names = Names()
        self._links: dict[tuple[SimHost, SimHost], Link] = {}

    def connect(self, one: SimHost, other: SimHost, link: Link) -> None:
        """Join two hosts; `one` is the link's near end."""
        self._links[one, other] = self._links[other, one] = link
        link.ends = (one, other)

    def route(self, source: SimHost, address: str) -> tuple[SimHost, Link] | None:
        """Who is next on the way to `address`, and the link there; None when there is no way."""
        target = self.hosts.get(address)
        if target is None or (source, target) not in self._links:
            target = source.gateway
        link = self._links.get((source, target)) if target else None
        return (target, link) if target and link else None

    def ip(self, address: str) -> str:
        """The address in numbers, for one that may be a host's name."""
        host = self.hosts.get(address)
        return host.addresses[0] if host is not None and address == host.name else address


class SimHost:
    """A machine with one or more addresses, and its name as another."""

    def __init__(self, network: Network, name: str, *addresses: str) -> None:
        self.network = network
        self.name = name
        self.addresses = addresses
        self.gateway: SimHost | None = None
        """Where it sends what is for hosts that no link leads to. Hosts do not pass on what is not for them."""
        self.firewall: PacketFilter | None = None
        self.mtu_probing = False
        """Whether TCP shortens its segments where long ones vanish: Linux's tcp_mtu_probing."""
        self.incarnation: Incarnation | None = None
        self.wall_ns = network.wall_ns
        """Its wall clock, by which it judges certificates."""
        self._ports = itertools.cycle(range(32768, 61000))
        self._dead_flows: set[_Flow] = set()
        """Connections with an address that this machine no longer has."""
        for address in (name, *addresses):
            assert address not in network.hosts, f"address {address} is taken"
            network.hosts[address] = self

    def power_on(self) -> Incarnation:
        """Begin a new incarnation."""
        assert self.incarnation is None, f"{self.name} is on already"
        self.incarnation = Incarnation(self)
        return self.incarnation

    def power_off(self) -> None:
        """End the present incarnation without resetting its connections."""
        if self.incarnation is not None:
            incarnation, self.incarnation = self.incarnation, None
            incarnation.die(silently=True)

    def kill(self) -> Incarnation:
        """End every program, as SIGKILL does: the kernel lives on and resets the connections."""
        assert self.incarnation is not None
        self.incarnation.die(silently=False)
        self.incarnation = None
        return self.power_on()

    def change_address(self, link: Link | None = None) -> None:
        """Swap the first two addresses, if there are several; connections (over `link`) with the old one are dead.

        Their segments are dropped in both directions without notice.
        """
        if link is None:
            self.addresses = (*self.addresses[1:], self.addresses[0])
        if self.incarnation is not None:
            self._dead_flows |= self.incarnation.flows(link)

    def next_port(self) -> int:
        """An ephemeral TCP port."""
        return next(self._ports)

    def send(self, segment: TcpSegment, link: Link) -> Verdict:
        """Send a segment of this machine's own if its firewall accepts it; the firewall's verdict."""
        if self._dead_flows and (link, segment.source_port, segment.target_port) in self._dead_flows:
            return "accept"
        if self.firewall is not None:
            verdict = self.firewall.send(segment, link)
            if verdict != "accept":
                return verdict
        link.send(self, segment)
        return "accept"

    def receive(self, segment: TcpSegment, link: Link) -> None:
        """Take a segment that came in for this machine, if its firewall accepts it."""
        if self.incarnation is None:
            return
        flow = (link, segment.target_port, segment.source_port)
        if self._dead_flows and flow in self._dead_flows:
            return
        if self.firewall is not None:
            verdict = self.firewall.receive(segment, link)
            if verdict != "accept":
                if verdict == "reject" and not segment.flags & RST:
                    link.send(self, Unreachable.reset_for(segment))
                return
        self.incarnation.receive(segment, flow)


def _ignore(task: asyncio.Task[Any]) -> None:
    """Discard the exception of a task whose host is off."""
    if not task.cancelled():
        task.exception()


class Incarnation:
    """One life of a host, from power-on to the end of its programs."""

    def __init__(self, host: SimHost) -> None:
        self.host = host
        self.alive = True
        self.busy_until_ns = 0
        """Until when the devices are busy with what the programs asked of them."""
        self.tasks: WeakValueDictionary[int, asyncio.Task[Any]] = WeakValueDictionary()
        self.context: Context = copy_context()
        self.context.run(current.set, self)
        self._listeners: dict[tuple[str, int], SimListener] = {}
        self._endpoints: dict[_Flow, TcpEndpoint] = {}

    def flows(self, link: Link | None) -> set[_Flow]:
        """The connections over that link, or all."""
        return {flow for flow in self._endpoints if link is None or flow[0] is link}

    def run(self, loop: asyncio.AbstractEventLoop, coro: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run a program on this machine."""
        context = self.context.copy()
        return context.run(loop.create_task, coro)

    def spend(self, now_ns: int, delay_ns: int) -> None:
        """The devices are busy for `delay_ns` more."""
        self.busy_until_ns = max(now_ns, self.busy_until_ns) + delay_ns

    def die(self, *, silently: bool) -> None:
        """Stop all programs; unless `silently`, reset their connections."""
        self.alive = False
        self._listeners.clear()
        for endpoint in list(self._endpoints.values()):
            endpoint.die(reset=not silently)
        self._endpoints.clear()
        for task in self._tasks():
            task.add_done_callback(_ignore)
            task.cancel()
        if tasks := self._tasks():
            loop: Any = tasks[0].get_loop()
            loop.end_tasks_soon(self._tasks)

    def _tasks(self) -> list[asyncio.Task[Any]]:
        return [task for _, task in sorted(self.tasks.items())]

    def connect(
        self,
        loop: VirtualTimeLoop,
        protocol: asyncio.BaseProtocol,
        address: str,
        port: int,
        waiter: asyncio.Future[None],
        *,
        plain: bool,
    ) -> SimTransport:
        """Open a connection; `waiter` is resolved when it is made if it is a plain one, failed if it is not."""
        if not self.alive:
            raise OSError(f"{self.host.name} is off")
        route = self.host.network.route(self.host, address)
        if route is None:
            raise OSError(f"{self.host.name}: no route to {address}")
        target, link = route
        local_port = self.host.next_port()
        transport = SimTransport(loop, protocol, (address, port), (self.host.name, local_port))
        transport.waiter = (waiter, plain)
        endpoint = TcpEndpoint(loop.env, link, self.host, target, local_port, port, transport, address)
        self._attach(endpoint, transport, (link, local_port, port))
        endpoint.connect()
        return transport

    def listen(
        self, loop: VirtualTimeLoop, accept: Callable[[], asyncio.BaseProtocol], address: str, port: int
    ) -> SimListener:
        """Accept connections at `address`:`port`; the empty address is all of them."""
        if not self.alive:
            raise OSError(f"{self.host.name} is off")
        if (address, port) in self._listeners:
            raise OSError(f"{self.host.name}: {address}:{port} is in use")
        listener = SimListener(
            loop, accept, address, port, lambda: self._listeners.pop((address, port), None)
        )
        self._listeners[address, port] = listener
        return listener

    def _attach(self, endpoint: TcpEndpoint, transport: SimTransport, flow: _Flow) -> None:
        self._endpoints[flow] = endpoint
        transport.attach(endpoint, self.context.copy(), lambda: self._endpoints.pop(flow, None))

    def receive(self, segment: TcpSegment, flow: _Flow) -> None:
        """Hand a segment to its connection, to a listener, or answer that there is none."""
        endpoint = self._endpoints.get(flow)
        if endpoint is not None:
            endpoint.receive(segment)
        elif segment.flags & (SYN | ACK) == SYN:
            self._accept(segment, flow)
        elif not segment.flags & RST:
            self.host.send(TcpSegment.reset_for(segment), flow[0])

    def _accept(self, segment: TcpSegment, flow: _Flow) -> None:
        link, port, _ = flow
        if self.host.network.hosts.get(segment.address) is not self.host:
            return  # for somebody behind this host, or for nobody
        listener = self._listeners.get((segment.address, port)) or self._listeners.get(("", port))
        if listener is None:
            self.host.send(TcpSegment.reset_for(segment), link)
            return
        loop, remote = listener.loop, link.other(self.host)
        context = self.context.copy()
        protocol = context.run(listener.accept)
        peer, local = (remote.name, segment.source_port), (segment.address, port)
        transport = SimTransport(loop, protocol, peer, local)
        endpoint = TcpEndpoint(
            loop.env, link, self.host, remote, port, segment.source_port, transport, segment.address
        )
        self._attach(endpoint, transport, flow)
        endpoint.accept()
