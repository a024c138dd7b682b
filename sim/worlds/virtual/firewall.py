"""The firewall of a simulated box: a model of nftables evaluates the ruleset that a real box would load.

It implements two interfaces: the backend of the firewall's supervisor, through which the box program enforces the
policy, and the packet filter of the simulated network (`sim.net.host.PacketFilter`), which decides on segments. Until
the program has enforced the policy nothing passes, since the ports of a box that has just started are closed.

Every segment is evaluated, as by netfilter. For plain segments (only ACK set) of an established connection the
verdict is cached: the rules depend only on addresses, ports, interfaces, and the state and direction from connection
tracking, which are the same for all of them. The cache is cleared when anything changes on which a verdict depends:
the ruleset or a set (`PacketFilterModel.generation`), the timeout of an element, the state of the connection, or the
carrier of a port. The model does not follow sequence numbers: all segments passed to connection tracking have those
of the handshake.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, TypeAlias

from hal.emul.ethernet import EmulEthernetPort
from netfw.events import Alarm, OutsideInspection, Repair
from netfw.model import packet
from netfw.model.conntrack import ConntrackEntry, Settings, tuple_of
from netfw.model.conntrack_tcp import TcpState
from netfw.model.packet import ACK, SYN, Packet
from netfw.model.packet_filter import PacketFilterModel
from netfw.model.rules import PacketVerdict
from netfw.model.values import Json
from netfw.policy.policy import Policy
from netfw.ruleset.render import render
from netfw.ruleset.sessions import THE_BOX, OpenSession, Session, interface_of, why_not_permitted
from netfw.ruleset.timeouts import BOX_S
from netfw.service.supervisor import NotEnforced
from sim.net.host import SimHost
from sim.net.link import Link
from sim.net.segment import Verdict
from sim.net.tcp import TcpSegment
from sim.units import SECOND_NS
from sim.worlds.shared.site.policy import NOT_IN_FORCE

_ESTABLISHED: Final = TcpState.ESTABLISHED
_ESTABLISHED_NS: Final = BOX_S["tcp_timeout_established"] * SECOND_NS
_ANY_PORT: Final = 49152
_Flow: TypeAlias = tuple[bool, Link, int, int, str]
"""One direction of a connection: (whether inward, link, source port, target port, destination address)."""


@dataclass(frozen=True, slots=True)
class Zone:
    """The end of a link at the box: its interface, the box's address there, and its port."""

    interface: str
    address: str
    port: EmulEthernetPort


class VirtualFirewall:
    """The `FirewallBackend` (`netfw.service.supervisor`) and the `PacketFilter` (`sim.net.host`) of a simulated box.

    `zones` are the ends of the links at the box, by the links' names.
    """

    def __init__(
        self, policy: Policy, host: SimHost, zones: Mapping[str, Zone], now_ns: Callable[[], int]
    ) -> None:
        self._policy, self._host, self._zones, self._now_ns = policy, host, zones, now_ns
        # with the sysctls of `netfw.kernel.sysctl`; without checksums, as simulated segments are never damaged
        self.packet_filter = PacketFilterModel(
            render(policy).commands(), Settings(tcp_loose=False, checksum=False, timeouts=BOX_S)
        )
        self._in_force = False
        self.prevented = ""
        """Why the policy cannot be enforced; empty if it can."""
        self._established: dict[_Flow, ConntrackEntry] = {}
        self._generation = 0
        self._constant_until_ns = 0
        for zone in zones.values():
            zone.port.watch(lambda _: self._established.clear())
        self.causes: Counter[str] = Counter()
        """The numbers of segments refused in the whole run, by cause."""

    def reboot(self) -> None:
        """Discard the ruleset's enforcement and connection tracking, as a power cut does."""
        self._in_force = False
        self._established.clear()
        self.packet_filter.conntrack.flush()

    def load(self, policy: Policy) -> None:
        """Replace the policy on a running box, as an administrator does; tracked connections are kept."""
        self._policy = policy
        self.packet_filter.load(render(policy).commands())

    # -- interface to the box program

    @property
    def ports(self) -> Collection[int]:
        """See `FirewallBackend.ports`."""
        return [port.number for port in self._policy.ports]

    def is_in_force(self) -> bool:
        """See `FirewallBackend.is_in_force`."""
        return self._in_force

    def enforce(self) -> None:
        """See `FirewallBackend.enforce`."""
        if self.prevented:
            raise NotEnforced(self.prevented)
        self._in_force = True

    def set_forwarding(self, allowed: bool) -> None:
        """See `FirewallBackend.set_forwarding`. A simulated box forwards nothing: its tunnels are not links."""

    def watch(
        self,
        on_event: Callable[[Alarm | Repair], None],  # noqa: ARG002
        sessions: Callable[[], Mapping[Session, int]],  # noqa: ARG002
    ) -> Callable[[], None]:
        """See `FirewallBackend.watch`. Nothing else can change the ruleset here."""
        return lambda: None

    def permits(self, session: Session) -> bool:
        """See `FirewallBackend.permits`."""
        return not why_not_permitted(self._policy, session)

    def open_session(self, session: Session, seconds: int) -> None:
        """See `FirewallBackend.open_session`."""
        if why := why_not_permitted(self._policy, session, seconds):
            raise NotEnforced(why)
        name, element = self._element(session, seconds)
        self.packet_filter.open(name, element, self._now_ns())

    def close_session(self, session: Session) -> None:
        """See `FirewallBackend.close_session`."""
        name, element = self._element(session, 1)
        with suppress(KeyError):  # the ruleset was loaded again meanwhile
            self.packet_filter.close(name, element)

    def _element(self, session: Session, seconds: int) -> tuple[str, Json]:
        interface = interface_of(self._policy, session)
        assert interface is not None
        element = OpenSession(session, interface, seconds).element()["element"]
        return element["name"], element["elem"][0]

    def passes(self, session: Session) -> bool:
        """Return whether the first packet of a connection would pass from staff to the path's end now.

        The tunnel is not a link of the simulated network; its emulation calls this.
        """
        tunnel, end = self._policy.tunnel, interface_of(self._policy, session)
        if not self._in_force or tunnel is None or end is None:
            return False
        addresses = str(session.staff), _ANY_PORT, str(session.instrument), session.desktop.port
        arriving = packet.parse(packet.tcp(*addresses, SYN), iif=tunnel.interface)
        oif = "" if session.port == THE_BOX else end
        return self.packet_filter.would_pass(arriving, oif, self._now_ns())

    def inspect(self) -> OutsideInspection:
        """See `FirewallBackend.inspect`."""
        return OutsideInspection()

    def refused(self) -> Mapping[str, int]:
        """See `FirewallBackend.refused`."""
        return {cause: count for cause, count in self.causes.items() if cause != NOT_IN_FORCE}

    # -- interface to the network

    def receive(self, segment: TcpSegment, link: Link) -> Verdict:
        """See `sim.net.host.PacketFilter`."""
        flow = (True, link, segment.source_port, segment.target_port, segment.address)
        if self._is_cached(flow, segment):
            return "accept"
        verdict = self._filter_arrival(segment, link, self._zones[link.name])
        return self._count_and_cache(flow, segment, verdict)

    def send(self, segment: TcpSegment, link: Link) -> Verdict:
        """See `sim.net.host.PacketFilter`."""
        flow = (False, link, segment.source_port, segment.target_port, segment.address)
        if self._is_cached(flow, segment):
            return "accept"
        verdict = self._filter_departure(segment, link, self._zones[link.name])
        return self._count_and_cache(flow, segment, verdict)

    def _is_cached(self, flow: _Flow, segment: TcpSegment) -> bool:
        """Return whether the cache accepts a plain segment of this flow."""
        entry = self._established.get(flow)
        if entry is None or segment.flags != ACK:
            return False
        now = self._now_ns()
        if self._generation != self.packet_filter.generation or now >= self._constant_until_ns:
            self._established.clear()
            return False
        if entry.expires_ns <= now or entry.tcp is None or entry.tcp.state is not _ESTABLISHED:
            return False
        entry.expires_ns = now + _ESTABLISHED_NS
        return True

    def _count_and_cache(self, flow: _Flow, segment: TcpSegment, verdict: PacketVerdict) -> Verdict:
        """Count a verdict, and cache it if it applies to later plain segments of the flow; returns its action."""
        if verdict.cause is not None:
            self.causes[verdict.cause] += 1
        self._established.pop(flow, None)
        if verdict.action == "accept" and segment.flags == ACK:
            now = self._now_ns()
            entry = self._entry(flow)
            if entry is not None and _is_established(entry):
                if not self._established:
                    self._generation = self.packet_filter.generation
                    self._constant_until_ns = self.packet_filter.constant_until_ns(now)
                self._established[flow] = entry
        return verdict.action

    def _entry(self, flow: _Flow) -> ConntrackEntry | None:
        """Return the entry of a flow in connection tracking."""
        inward, link, source_port, target_port, address = flow
        segment = TcpSegment(source_port, target_port, address, 1, ACK)
        tuple_ = tuple_of(self._packet(segment, link, self._zones[link.name], inward=inward))
        return None if tuple_ is None else self.packet_filter.conntrack.find(tuple_, self._now_ns())

    def _filter_arrival(self, segment: TcpSegment, link: Link, zone: Zone) -> PacketVerdict:
        if not self._in_force or not zone.port.carrier():
            return PacketVerdict("drop", (NOT_IN_FORCE,))
        arrived = self._packet(segment, link, zone, inward=True)
        if self._host.network.hosts.get(segment.address) in (self._host, link.other(self._host)):
            return self.packet_filter.receive(arrived, self._now_ns())
        # the segment is for a host behind the box, and is not forwarded
        verdict = self.packet_filter.arrive(arrived, self._now_ns())
        return PacketVerdict("drop", verdict.counters)

    def _filter_departure(self, segment: TcpSegment, link: Link, zone: Zone) -> PacketVerdict:
        if not self._in_force or not zone.port.carrier():
            return PacketVerdict("drop", (NOT_IN_FORCE,))
        return self.packet_filter.send(self._packet(segment, link, zone, inward=False), self._now_ns())

    def _packet(self, segment: TcpSegment, link: Link, zone: Zone, *, inward: bool) -> Packet:
        network, peer = self._host.network, link.other(self._host)
        destination = network.ip(segment.address)
        begun_by_box = network.hosts.get(segment.address) in (peer, None)
        peer_ip, box_ip = (
            (destination, zone.address) if begun_by_box else (network.ip(peer.name), destination)
        )
        source, target = (peer_ip, box_ip) if inward else (box_ip, peer_ip)
        flags, seq = segment.flags, 0 if segment.flags & SYN else 1
        data = packet.tcp(source, segment.source_port, target, segment.target_port, flags, seq=seq, ack=1)
        if inward:
            return packet.parse(data, iif=zone.interface)
        return packet.parse(data, oif=zone.interface)


def _is_established(entry: ConntrackEntry) -> bool:
    tcp = entry.tcp
    return tcp is not None and tcp.state is _ESTABLISHED and tcp.answered
