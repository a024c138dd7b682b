"""The firewall of a simulated box: what passes is what the model says of the ruleset that the real box would load.

It has two sides. To the box program it is the gatekeeper that puts the policy in force, as on hardware; to the
simulated network (`sim.net.host.Firewall`) it is what decides on segments. Until the program has put the policy in
force nothing passes, as the ports of a box that has just started are closed.

It is asked about the beginnings of connections, about their ends, and about what belongs to no connection. That is
enough. The rules see of a segment its addresses, its ports, and what connection tracking says of it, and for the
segments of one connection that takes three values: the SYN is new, the SYN-ACK is an answer, and what follows the
handshake is established, in one direction or the other. A ruleset that stays as it is says the same of every later
one; a flow, once admitted, costs nothing. (Remote sessions will change sets while flows last. Who adds them must
make the network ask again.) Bytes are counted by the network and not here, so every segment shown to connection
tracking has the sequence numbers of the handshake.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Final

from agents.firewall import Told
from hal.emul.ethernet import EmulEthernetPort
from netfw import packet
from netfw.conntrack import Settings
from netfw.gate import Gate
from netfw.model import Action, Verdict
from netfw.packet import ACK, FIN, RST, SYN, Packet
from netfw.policy import Policy
from netfw.render import render
from sim.net.host import Host
from sim.net.link import Link
from sim.net.tcp import Segment

NOT_IN_FORCE: Final = "not-in-force"
"""The cause under which segments are counted before the policy is in force, or while a port is closed."""


@dataclass(frozen=True, slots=True)
class Zone:
    """Where a link ends at the box: the interface, the box's address there, and the port that can be closed."""

    interface: str
    address: str
    port: EmulEthernetPort


class SimGatekeeper:
    """`agents.firewall.Gatekeeper`, and `sim.net.host.Firewall` of the same box. `zones` go by the links' names."""

    def __init__(
        self, policy: Policy, host: Host, zones: Mapping[str, Zone], now_ns: Callable[[], int]
    ) -> None:
        self._policy, self._host, self._zones, self._now_ns = policy, host, zones, now_ns
        # the kernel's settings are those of `agents.kernel_settings`; nothing damages segments here
        self._gate = Gate(render(policy).commands(), Settings(tcp_loose=False, checksum=False))
        self._in_force = False
        self.causes: Counter[str] = Counter()
        """Segments refused in the whole run, by cause."""

    def reboot(self) -> None:
        """Forget what a kernel does not remember after a power cut."""
        self._in_force = False
        self._gate.conntrack.flush()

    # -- to the box program

    @property
    def ports(self) -> Collection[int]:
        """See `Gatekeeper.ports`."""
        return [port.number for port in self._policy.ports]

    def holds(self) -> bool:
        """See `Gatekeeper.holds`."""
        return self._in_force

    def enforce(self) -> None:
        """See `Gatekeeper.enforce`."""
        self._in_force = True

    def let_forward(self, allowed: bool) -> None:
        """See `Gatekeeper.let_forward`. A simulated box passes nothing on, as there is no tunnel."""

    def watch(self, told: Told) -> Callable[[], None]:  # noqa: ARG002
        """See `Gatekeeper.watch`. Nobody else changes anything here."""
        return lambda: None

    def refused(self) -> Mapping[str, int]:
        """See `Gatekeeper.refused`."""
        return {cause: count for cause, count in self.causes.items() if cause != NOT_IN_FORCE}

    # -- to the network

    def receive(self, segment: Segment, link: Link) -> Action:
        """What becomes of a segment that came in: see `sim.net.host.Firewall`."""
        zone = self._zones[link.name]
        if not self._in_force or not zone.port.carrier():
            return self._counted(Verdict("drop", (NOT_IN_FORCE,)))
        arrived = self._packet(segment, link, zone, inward=True)
        if self._host.network.hosts[segment.address] in (self._host, link.other(self._host)):
            return self._counted(self._gate.receive(arrived, self._now_ns()))
        verdict = self._gate.arrive(
            arrived, self._now_ns()
        )  # for somebody behind the box, and goes no further
        return self._counted(Verdict("drop", verdict.counters))

    def send(self, segment: Segment, link: Link) -> Action:
        """What becomes of a segment of the box's own: see `sim.net.host.Firewall`."""
        zone = self._zones[link.name]
        if not self._in_force or not zone.port.carrier():
            return self._counted(Verdict("drop", (NOT_IN_FORCE,)))
        return self._counted(self._gate.send(self._packet(segment, link, zone, inward=False), self._now_ns()))

    def _counted(self, verdict: Verdict) -> Action:
        if verdict.cause is not None:
            self.causes[verdict.cause] += 1
        return verdict.action

    def _packet(self, segment: Segment, link: Link, zone: Zone, *, inward: bool) -> Packet:
        network, peer = self._host.network, link.other(self._host)
        meant = network.ip(segment.address)
        begun_here = network.hosts[segment.address] is peer
        theirs, ours = (meant, zone.address) if begun_here else (network.ip(peer.name), meant)
        source, target = (theirs, ours) if inward else (ours, theirs)
        seq = int(not segment.syn)
        data = packet.tcp(
            source, segment.source_port, target, segment.target_port, _flags(segment), seq=seq, ack=1
        )
        if inward:
            return packet.parse(data, iif=zone.interface)
        return packet.parse(data, oif=zone.interface)


def _flags(segment: Segment) -> int:
    return SYN * segment.syn | ACK * segment.has_ack | FIN * segment.fin | RST * segment.rst
