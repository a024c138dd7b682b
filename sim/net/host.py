"""Simulated hosts, and the network that joins them. Each period from power-on to power-off is one incarnation.

The code of a host runs in a context that holds the host's current incarnation. After a power cut that incarnation is
dead: its disk and its connections do nothing, so that no `finally` block and no late callback can act for a
host that is off.

A host may have a firewall, which decides on every segment that arrives or leaves, as netfilter does. Its only effect
on TCP besides the loss of segments is an error for each rejected one.
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
from sim.net.tcp import TcpEndpoint, TimeWait
from sim.net.transport import SimListener, SimTransport

current: ContextVar[Incarnation] = ContextVar("current")
"""The incarnation whose code is running."""


class PacketFilter(Protocol):
    """A host's packet filter, which decides on every segment."""

    def receive(self, segment: TcpSegment, link: Link) -> Verdict:
        """Return the verdict on a segment that arrived over `link`."""
        ...

    def send(self, segment: TcpSegment, link: Link) -> Verdict:
        """Return the verdict on a segment that the host sends over `link`."""
        ...


_Flow: TypeAlias = tuple[Link, int, int]
"""A connection at one host: the link to the other host, the local port, the remote port."""


class Network:
    """The hosts by address, and the links between them."""

    def __init__(self, wall_ns: Callable[[], int] | None = None) -> None:
        """`wall_ns` is the hosts' wall clock, in nanoseconds since 1970; None: OpenSSL uses the real time."""
        self.wall_ns = wall_ns
        self.hosts: dict[str, SimHost] = {}
        self.names = Names()
        self._links: dict[tuple[SimHost, SimHost], Link] = {}

    def connect(self, near: SimHost, far: SimHost, link: Link) -> None:
        """Join two hosts; `near` is the link's near end."""
        self._links[near, far] = self._links[far, near] = link
        link.ends = (near, far)

    def route(self, source: SimHost, address: str) -> tuple[SimHost, Link] | None:
        """Return the next host on the route to `address`, and the link to it; None without a route."""
        target = self.hosts.get(address)
        if target is None or (source, target) not in self._links:
            target = source.gateway
        link = self._links.get((source, target)) if target else None
        return (target, link) if target and link else None

    def ip(self, address: str) -> str:
        """Return the first IP address of the host named `address`, or `address` itself if no host has that name."""
        host = self.hosts.get(address)
        return host.addresses[0] if host is not None and address == host.name else address


class SimHost:
    """A host with one or more IP addresses. Its name can be used as an address too."""

    def __init__(self, network: Network, name: str, *addresses: str) -> None:
        self.network = network
        self.name = name
        self.addresses = addresses
        self.gateway: SimHost | None = None
        """The next hop for destinations without a direct link. Hosts do not forward packets of others."""
        self.firewall: PacketFilter | None = None
        self.mtu_probing = False
        """Whether TCP shortens its segments where long ones are lost: Linux's tcp_mtu_probing."""
        self.incarnation: Incarnation | None = None
        self.wall_ns = network.wall_ns
        """The wall clock for the validity of certificates, in nanoseconds since 1970; None: the real time."""
        self._ports = itertools.cycle(range(32768, 61000))
        self._dead_flows: set[_Flow] = set()
        """Connections with an address that this host no longer has."""
        for address in (name, *addresses):
            assert address not in network.hosts, f"address {address} is taken"
            network.hosts[address] = self

    def power_on(self) -> Incarnation:
        """Start a new incarnation of a host that is off."""
        assert self.incarnation is None, f"{self.name} is on already"
        self.incarnation = Incarnation(self)
        return self.incarnation

    def power_off(self) -> None:
        """End the current incarnation without resetting its connections, as a power cut does."""
        if self.incarnation is not None:
            incarnation, self.incarnation = self.incarnation, None
            incarnation.terminate(silently=True)

    def kill(self) -> Incarnation:
        """End all programs as SIGKILL does: the kernel keeps running and resets their connections."""
        assert self.incarnation is not None
        killed, self.incarnation = self.incarnation, None
        killed.terminate(silently=False)
        incarnation = self.power_on()
        incarnation.time_wait = killed.time_wait
        return incarnation

    def change_address(self, link: Link | None = None) -> None:
        """Replace the host's address: connections over `link` become dead, or with None all of them.

        Segments of dead connections are dropped silently in both directions. With None, the host's first two
        addresses change places.
        """
        if link is None:
            self.addresses = (*self.addresses[1:2], *self.addresses[:1], *self.addresses[2:])
        if self.incarnation is not None:
            self._dead_flows |= self.incarnation.flows(link)

    def next_port(self) -> int:
        """Return the next ephemeral TCP port."""
        return next(self._ports)

    def send(self, segment: TcpSegment, link: Link) -> Verdict:
        """Send a segment of this host if its firewall accepts it; returns the firewall's verdict."""
        if self._dead_flows and (link, segment.source_port, segment.target_port) in self._dead_flows:
            return "accept"
        if self.firewall is not None:
            verdict = self.firewall.send(segment, link)
            if verdict != "accept":
                return verdict
        link.send(self, segment)
        return "accept"

    def receive(self, segment: TcpSegment, link: Link) -> None:
        """Process a segment that arrived, if the firewall accepts it."""
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
    """Retrieve the exception of a task whose host is off, so that asyncio does not report it."""
    if not task.cancelled():
        task.exception()


class Incarnation:
    """A host between power-on and power-off (or the killing of its programs): its tasks and connections."""

    def __init__(self, host: SimHost) -> None:
        self.host = host
        self.alive = True
        self.busy_until_ns = 0
        """The time until which the devices are busy with the programs' requests, in nanoseconds of lab time."""
        self.tasks: WeakValueDictionary[int, asyncio.Task[Any]] = WeakValueDictionary()
        self.context: Context = copy_context()
        self.context.run(current.set, self)
        self._listeners: dict[tuple[str, int], SimListener] = {}
        self._endpoints: dict[_Flow, TcpEndpoint] = {}
        self.time_wait = TimeWait[_Flow]()

    def flows(self, link: Link | None) -> set[_Flow]:
        """Return the connections over `link`; with None, all connections."""
        return {flow for flow in self._endpoints if link is None or flow[0] is link}

    def run(self, loop: asyncio.AbstractEventLoop, coro: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run a coroutine as a program of this host; returns its task."""
        context = self.context.copy()
        return context.run(loop.create_task, coro)

    def spend(self, now_ns: int, delay_ns: int) -> None:
        """Keep the devices busy for another `delay_ns` nanoseconds."""
        self.busy_until_ns = max(now_ns, self.busy_until_ns) + delay_ns

    def terminate(self, *, silently: bool) -> None:
        """Stop all programs; unless `silently`, reset their connections."""
        self.alive = False
        self._listeners.clear()
        for endpoint in list(self._endpoints.values()):
            endpoint.terminate(reset=not silently)
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
        """Open a TCP connection to `address`:`port`.

        `waiter` gets an exception if the connection fails; it is resolved after the TCP handshake if `plain`, and
        left to the TLS layer otherwise. Raises: OSError if the host is off or has no route.
        """
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
        """Listen at `address`:`port`; the empty address means all addresses of the host.

        Raises: OSError if the host is off or the port is in use.
        """
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
        transport.attach(endpoint, self.context.copy(), lambda: self._detach(flow))

    def _detach(self, flow: _Flow) -> None:
        endpoint = self._endpoints.pop(flow, None)
        answer = endpoint.last_acknowledgement if endpoint is not None else None
        if answer is not None:
            self.time_wait.add(flow, answer, flow[0].now)

    def receive(self, segment: TcpSegment, flow: _Flow) -> None:
        """Pass a segment to its connection or to a listener; answer with RST if there is neither."""
        endpoint = self._endpoints.get(flow)
        if endpoint is not None:
            endpoint.receive(segment)
            return
        waits, answer = self.time_wait.receive(flow, segment, flow[0].now)
        if answer is not None:
            self.host.send(answer, flow[0])
        elif waits:
            pass
        elif segment.flags & (SYN | ACK) == SYN:
            self._accept(segment, flow)
        elif not segment.flags & RST:
            self.host.send(TcpSegment.reset_for(segment), flow[0])

    def _accept(self, segment: TcpSegment, flow: _Flow) -> None:
        link, port, _ = flow
        if self.host.network.hosts.get(segment.address) is not self.host:
            return  # not an address of this host, and hosts do not forward
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
