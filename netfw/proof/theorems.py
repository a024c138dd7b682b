"""The theorems: what a firewall with a given policy must do, as formulas of refuting packets.

They refer to the policy and to the packets that each hook accepts, not to chains, rules or sets, except the session
sets. Safety theorems, which a firewall that drops everything fulfils too, say what is not accepted; the others say
that everything the policy permits is accepted.

Terms: an *answer* belongs to a connection that the receiver began. An *error* is an ICMP message about an existing
connection. *Neighbours* are the messages of neighbour discovery (RFC 4861) and multicast listener discovery (RFC
2710, RFC 3810), which cannot have passed a router.

Received packets pass prerouting, and then input or forward. That an answer from outside belongs to a connection of
the box follows from "outside": a connection exists only if its first packet was accepted.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from ipaddress import IPv6Network
from typing import Final, Literal, NamedTuple, TypeAlias

import z3

from netfw.model.packet import ESP, TCP, UDP
from netfw.policy.policy import (
    DHCP_PORTS,
    DHCP_SERVERS,
    RESERVED_NETWORKS,
    Network,
    Policy,
    PolicyPort,
    Service,
    reserved,
)
from netfw.proof.smt import RulesetFormulas
from netfw.proof.tries import Intervals, complement, union
from netfw.ruleset.names import CONNECTIONS_MAX, SESSIONS

Hook: TypeAlias = Literal["arriving", "in", "through", "out"]

PROTOCOLS: Final = {"tcp": TCP, "udp": UDP}
LINK: Final = (IPv6Network("::/128"), IPv6Network("fe80::/10"))
SYN_MASK: Final = 0x17
"""FIN, SYN, RST and ACK: the first packet of a connection has only SYN of these (RFC 9293)."""
SYN: Final = 0x02
ERRORS: Final = (3, 4, 11, 12)
"""ICMP error types (RFC 792); those of ICMPv6 are below 128 (RFC 4443)."""
MLD_QUERY, MLD_REPORT, MLD_DONE, MLD2_REPORT = 130, 131, 132, 143
ROUTER_SOLICIT, ROUTER_ADVERT, SOLICIT, ADVERT = 133, 134, 135, 136


class Theorem(NamedTuple):
    """`refuting` are the packets that must not exist; `path` is their path, for messages."""

    name: str
    statement: str
    path: Hook
    refuting: z3.BoolRef


class Theorems:
    """The theorems of a policy about a ruleset."""

    def __init__(self, policy: Policy, ruleset: RulesetFormulas) -> None:
        self._policy, self._packet, self._ruleset = policy, ruleset.packet, ruleset
        self._sets = ruleset.packet.sets
        accepted_early = ruleset.accepted("prerouting")
        self._accepted_early = accepted_early
        self._in = z3.And(accepted_early, ruleset.accepted("input"))
        self._through = z3.And(accepted_early, ruleset.accepted("forward"))
        self._out = ruleset.accepted("output")
        self._ports = [port.interface for port in policy.ports]
        self._tunnel = [policy.tunnel.interface] if policy.tunnel else []
        bridge = policy.tunnel.address if policy.tunnel else None
        self._bridges = {bridge.version} if bridge else set[int]()
        """The IP version in which desktops may be bridged."""
        self._zones = [*policy.outside, *self._ports, *self._tunnel]

    def all(self) -> Iterator[Theorem]:
        """Yield all theorems, safety first."""
        yield from self._input_safety()
        yield from self._forward_safety()
        yield from self._output_safety()
        yield from self._liveness()

    def assumption(self) -> z3.BoolRef:
        """The policy permits all open sessions; the theorem "elements" checks that for the listed ones."""
        asked = self._ruleset.asked.values()
        allowed = [z3.Implies(answer, self._allowed(name, key)) for name, key, answer in asked]
        return z3.And(*allowed, self._ruleset.monotonic(self._packet.iif))

    # --- safety

    def _input_safety(self) -> Iterator[Theorem]:
        packet, policy = self._packet, self._policy
        known = [*self._zones, "lo"]
        yield Theorem(
            "unused",
            "no packet is accepted from an unused interface",
            "arriving",
            z3.And(self._accepted_early, self._not_at(known)),
        )
        spoofed = [self._at(interface, self._foreign(interface)) for interface in self._zones]
        yield Theorem(
            "spoofed",
            "no packet is accepted with a source address that does not belong to its interface",
            "arriving",
            z3.And(self._accepted_early, z3.Or(spoofed)),
        )
        unasked = [
            self._at(interface, z3.Not(self._asked(interface)), self._extra(interface))
            for interface in policy.outside
        ]
        yield Theorem(
            "outside",
            f"only answers{' and DHCP' if policy.uses_dhcp else ''} are accepted from outside",
            "in",
            z3.And(self._in, z3.Or(unasked)),
        )
        beyond = [
            self._at(port.interface, z3.Not(self._served(port)), self._extra(port.interface))
            for port in policy.ports
        ]
        unbridged = z3.Not(self._bridged_in())
        yield Theorem(
            "instrument", "an instrument reaches only its port's services on the box, or answers in an open session",
            "in", z3.And(self._in, z3.Or(beyond), unbridged),
        )  # fmt: skip
        staff = [self._at(interface, self._extra(interface)) for interface in self._tunnel]
        reach = (
            "staff reach the box only in an open session" if self._bridges else "staff cannot reach the box"
        )
        yield Theorem("staff", reach, "in", z3.And(self._in, z3.Or(staff), unbridged))
        at_ports = z3.Or([self._at(interface, self._extra(interface)) for interface in self._ports])
        begins = z3.And(self._in, at_ports, packet.is_in("new"))
        yield Theorem(
            "limited", f"a port gets no new connection beyond {CONNECTIONS_MAX}", "in",
            z3.And(begins, self._has_too_many()),
        )  # fmt: skip
        not_a_syn = z3.And(packet.is_in("new"), packet.protocol(TCP), packet.flags & SYN_MASK != SYN)
        yield Theorem(
            "beginning", "connections begin with a SYN", "in",
            z3.And(z3.Or(self._in, self._through), self._not_at(["lo"]), not_a_syn),
        )  # fmt: skip

    def _forward_safety(self) -> Iterator[Theorem]:
        through = self._through
        yield Theorem(
            "crossing", "no instrument reaches another host through the box", "through",
            z3.And(through, self._at_any(self._ports), self._to_any(self._ports)),
        )  # fmt: skip
        outside = z3.Or(self._at_any(self._policy.outside), self._to_any(self._policy.outside))
        yield Theorem(
            "leaving", "no packet passes between outside and inside", "through", z3.And(through, outside)
        )
        yield Theorem(
            "sessions", "forwarded packets belong to an open session, in both directions", "through",
            z3.And(through, z3.Not(self._in_session())),
        )  # fmt: skip
        yield from self._session_safety()

    def _session_safety(self) -> Iterator[Theorem]:
        """Yield the theorem about listed open sessions."""
        packet, wrong = self._packet, []
        for version, name in SESSIONS.items() if self._policy.tunnel else ():
            key = [packet.saddr[version], packet.oif, packet.daddr[version], packet.l4proto, packet.dport]
            listed = self._sets.member_of_rows(key, self._ruleset.elements(name))
            wrong.append(
                z3.And(packet.is_version(version), packet.transport, listed, z3.Not(self._allowed(name, key)))
            )
        yield Theorem(
            "elements",
            "open sessions are between staff and desktop services of instruments",
            "through",
            z3.Or(wrong),
        )

    def _output_safety(self) -> Iterator[Theorem]:
        out, policy = self._out, self._policy
        harmless = z3.Not(z3.Or(self._error(), self._neighbours_out()))
        others = z3.Or(self._gateway(inward=False), self._dhcp(inward=False))
        allowed = z3.Or(
            z3.And(self._to(policy.authorized_interface), self._authorized()),
            z3.And(self._to(policy.uplink), others),
        )
        yield Theorem(
            "egress", "the box sends only to authorized addresses and ports", "out",
            z3.And(out, self._to_any(policy.outside), z3.Not(allowed), harmless),
        )  # fmt: skip
        unasked = z3.Not(z3.Or(self._answer(), self._bridged_out()))
        yield Theorem(
            "answers", "the box sends only answers to instruments, or requests in an open session", "out",
            z3.And(out, self._to_any(self._ports), unasked, harmless),
        )  # fmt: skip
        elsewhere = z3.Not(self._to_any([*policy.outside, *self._ports, "lo"]))
        exception = ", or the tunnel in an open session" if self._bridges else ""
        yield Theorem(
            "elsewhere", f"the box uses no other interface{exception}", "out",
            z3.And(out, elsewhere, z3.Not(self._bridged_out()), harmless),
        )  # fmt: skip

    # --- liveness: what the policy permits is accepted

    def _liveness(self) -> Iterator[Theorem]:
        for name, statement, path, promised in self._permitted():
            accepted = {"in": self._in, "through": self._through, "out": self._out}[path]
            usual = z3.And(self._packet.transport, self._packet.whole, z3.Not(self._has_too_many()))
            yield Theorem(name, statement, path, z3.And(promised, usual, z3.Not(accepted)))

    def _permitted(self) -> Iterator[tuple[str, str, Hook, z3.BoolRef]]:
        packet, policy = self._packet, self._policy
        begun, ours = self._beginning_or_later(), self._at(policy.uplink, self._not_foreign(policy.uplink))
        served = [
            self._at(port.interface, self._not_foreign(port.interface), self._served(port))
            for port in policy.ports
        ]
        yield "services", "instruments reach their port's services", "in", z3.And(begun, z3.Or(served))
        carried = packet.protocol(TCP, UDP)
        yield (
            "answers in",
            "answers from outside are accepted",
            "in",
            self._at(
                policy.authorized_interface,
                self._not_foreign(policy.authorized_interface),
                carried,
                self._answer(),
            ),
        )
        errors = z3.And(
            self._not_at(["lo"]), self._at_any(self._zones), self._not_foreign_anywhere(), self._error()
        )
        yield "errors", "errors about connections are accepted", "in", errors
        near = [self._at(i, self._not_foreign(i), self._neighbours_in(i)) for i in self._zones]
        yield (
            "discovery in",
            "neighbour discovery is accepted",
            "in",
            z3.And(packet.is_in("untracked"), z3.Or(near)),
        )
        yield (
            "discovery out",
            "neighbour discovery is sent",
            "out",
            z3.And(packet.is_in("untracked"), self._neighbours_out()),
        )
        loop = z3.And(self._at("lo"), z3.Not(packet.is_in("invalid")))
        yield "loopback in", "loopback packets are accepted", "in", loop
        yield "loopback out", "loopback packets are sent", "out", self._to("lo")
        goes = z3.And(self._to(policy.authorized_interface), begun, self._authorized())
        yield "destinations", "the box reaches every authorized address", "out", goes
        back = z3.And(self._to_any(self._ports), self._answer())
        yield "answers out", "answers to instruments are sent", "out", back
        yield (
            "open sessions",
            "packets of an open session are forwarded",
            "through",
            self._permitted_session(),
        )
        if self._bridges:
            bridged = z3.And(self._not_foreign_anywhere(), self._beginning_or_any(), self._bridged_in())
            yield "bridges in", "packets to the box of an open session are accepted", "in", bridged
            yield "bridges out", "packets of the box in an open session are sent", "out", self._bridged_out()
        if policy.uses_dhcp:
            served_by = z3.And(ours, z3.Not(packet.is_in("invalid")), self._dhcp(inward=True))
            yield "leases in", "answers of DHCP servers are accepted", "in", served_by
            asked = z3.And(self._to(policy.uplink), self._dhcp(inward=False))
            yield "leases out", "requests to DHCP servers are sent", "out", asked
        if policy.vpn:
            gates = z3.And(ours, self._gateway(inward=True))
            yield (
                "gateways in",
                "IKE and ESP from the gateways are accepted",
                "in",
                z3.And(z3.Not(packet.is_in("invalid")), self._beginning_or_any(), gates),
            )
            yield (
                "gateways out",
                "IKE and ESP to the gateways are sent",
                "out",
                z3.And(self._to(policy.uplink), self._gateway(inward=False)),
            )

    # --- parts of the formulas; each docstring states the proposition

    def _has_too_many(self) -> z3.BoolRef:
        """The port at which the packet arrived has more tracked connections than it may have."""
        return self._ruleset.has_more_than(CONNECTIONS_MAX, self._packet.iif)

    def _at(self, interface: str, *more: z3.BoolRef) -> z3.BoolRef:
        return z3.And(self._packet.iif == self._packet.interfaces.number(interface), *more)

    def _to(self, interface: str) -> z3.BoolRef:
        return self._packet.oif == self._packet.interfaces.number(interface)

    def _at_any(self, interfaces: Iterable[str]) -> z3.BoolRef:
        return z3.Or([self._at(interface) for interface in interfaces])

    def _to_any(self, interfaces: Iterable[str]) -> z3.BoolRef:
        return z3.Or([self._to(interface) for interface in interfaces])

    def _not_at(self, interfaces: Iterable[str]) -> z3.BoolRef:
        return z3.Not(self._at_any(interfaces))

    def _within(self, addresses: dict[int, z3.BitVecRef], networks: Iterable[Network]) -> z3.BoolRef:
        networks = tuple(networks)
        return z3.Or(
            [
                z3.And(self._packet.is_version(v), self._sets.member(addresses[v], _intervals(networks, v)))
                for v in (4, 6)
            ]
        )

    def _from_instrument(self, port: PolicyPort) -> z3.BoolRef:
        return self._is_instrument(self._packet.saddr, port)

    def _is_instrument(self, addresses: dict[int, z3.BitVecRef], port: PolicyPort) -> z3.BoolRef:
        """The address is one that an instrument of the port may have."""
        return z3.Or(
            [
                z3.And(self._packet.is_version(v), self._sets.member(addresses[v], _instruments(port, v)))
                for v in (4, 6)
            ]
        )

    def _foreign(self, interface: str) -> z3.BoolRef:
        return z3.Not(self._not_foreign(interface))

    def _not_foreign(self, interface: str) -> z3.BoolRef:
        """The source address may arrive here; a link-local one only for neighbour discovery."""
        packet, policy = self._packet, self._policy
        message = packet.icmp(
            6, MLD_QUERY, SOLICIT, ADVERT, *([ROUTER_ADVERT] if policy.accept_router_advertisements else [])
        )
        link = z3.And(self._within(packet.saddr, LINK), message)
        if interface in policy.outside:
            inside = [own.network for port in policy.ports for own in port.addresses]
            inside += [*(policy.tunnel.staff if policy.tunnel else ()), *RESERVED_NETWORKS]
            lease = z3.And(
                self._at(policy.uplink),
                packet.is_version(6),
                self._dhcp(inward=True),
                self._within(packet.saddr, LINK[1:]),
            )
            return z3.Or(link, lease, z3.Not(self._within(packet.saddr, inside)))
        if policy.tunnel and interface == policy.tunnel.interface:
            return z3.Or(link, self._within(packet.saddr, policy.tunnel.staff))
        (port,) = (port for port in policy.ports if port.interface == interface)
        return z3.Or(link, self._from_instrument(port))

    def _not_foreign_anywhere(self) -> z3.BoolRef:
        return z3.Or([self._at(interface, self._not_foreign(interface)) for interface in self._zones])

    def _answer(self) -> z3.BoolRef:
        return z3.And(self._packet.is_in("established"), self._packet.direction == 1)

    def _asked(self, interface: str) -> z3.BoolRef:
        """The packet is an answer on the authorized interface, or from a gateway or DHCP server on the uplink."""
        policy, cases = self._policy, [z3.BoolVal(False)]
        if interface == policy.authorized_interface:
            cases.append(self._answer())
        if interface == policy.uplink:
            cases += [self._gateway(inward=True), self._dhcp(inward=True)]
        return z3.Or(cases)

    def _error(self) -> z3.BoolRef:
        """An ICMP error about a connection. A redirect is also related and quotes a packet, but is not an error."""
        packet = self._packet
        kinds = packet.icmp(4, *ERRORS), z3.And(packet.icmp(6), z3.ULT(packet.icmp_type(), 128))
        return z3.And(packet.is_in("related"), z3.Or(*kinds))

    def _extra(self, interface: str) -> z3.BoolRef:
        """The packet is neither an error nor from a neighbour, which are accepted everywhere."""
        return z3.Not(z3.Or(self._error(), self._neighbours_in(interface)))

    def _neighbours_in(self, interface: str) -> z3.BoolRef:
        routers = self._policy.accept_router_advertisements and interface == self._policy.uplink
        return self._neighbours(255, [SOLICIT, ADVERT, *([ROUTER_ADVERT] if routers else [])], [MLD_QUERY])

    def _neighbours_out(self) -> z3.BoolRef:
        asking = [ROUTER_SOLICIT] if self._policy.accept_router_advertisements else []
        return self._neighbours(255, [SOLICIT, ADVERT, *asking], [MLD_REPORT, MLD_DONE, MLD2_REPORT])

    def _neighbours(self, hops: int, discovery: Sequence[int], listeners: Sequence[int]) -> z3.BoolRef:
        packet = self._packet
        return z3.Or(
            z3.And(packet.icmp(6, *discovery), packet.hops == hops),
            z3.And(packet.icmp(6, *listeners), packet.hops == 1),
        )

    def _service(self, services: Iterable[Service], port: z3.BitVecRef) -> z3.BoolRef:
        packet = self._packet
        return z3.And(
            packet.transport, self._sets.member_of_rows([packet.l4proto, port], list(map(_pair, services)))
        )

    def _served(self, port: PolicyPort) -> z3.BoolRef:
        """The packet goes to a service of the box on this port, as part of a connection."""
        packet = self._packet
        own = z3.Or(
            [
                z3.And(packet.is_version(a.version), packet.daddr[a.version] == int(a.ip))
                for a in port.addresses
            ]
        )
        return z3.And(packet.is_in("new", "established"), own, self._service(port.services, packet.dport))

    def _beginning_or_later(self) -> z3.BoolRef:
        return z3.And(
            self._packet.is_in("new", "established"), self._packet.direction == 0, self._beginning_or_any()
        )

    def _beginning_or_any(self) -> z3.BoolRef:
        packet = self._packet
        not_a_syn = z3.And(packet.is_in("new"), packet.protocol(TCP), packet.flags & SYN_MASK != SYN)
        return z3.Not(not_a_syn)

    def _authorized(self) -> z3.BoolRef:
        """The packet goes to an authorized address and port.

        Single addresses are separate, as in the ruleset's sets, so that equal sets are recognized
        (`netfw.proof.tries`).
        """
        packet, policy = self._packet, self._policy
        cases = []
        for version in (4, 6):
            key = [packet.daddr[version], packet.l4proto, packet.dport]
            for single in (True, False):
                rows = [
                    (((int(n.network_address), int(n.broadcast_address)),), *_pair(service))
                    for entry in policy.authorized
                    for service in entry.services
                    for n in entry.networks
                    if n.version == version and (n.num_addresses == 1) == single
                ]
                cases.append(
                    z3.And(packet.is_version(version), packet.transport, self._sets.member_of_rows(key, rows))
                )
        return z3.Or(cases)

    def _gateway(self, *, inward: bool) -> z3.BoolRef:
        """The packet is IKE (RFC 7296, section 2.23) or ESP, from or to an authorized gateway."""
        packet = self._packet
        gateways = [n for entry in self._policy.authorized if entry.role == "gateway" for n in entry.networks]
        if not self._policy.vpn:
            return z3.BoolVal(False)
        ike = z3.Or([z3.And(packet.protocol(UDP), packet.sport == n, packet.dport == n) for n in (500, 4500)])
        remote = packet.saddr if inward else packet.daddr
        return z3.And(self._within(remote, gateways), z3.Or(ike, packet.protocol(ESP)))

    def _dhcp(self, *, inward: bool) -> z3.BoolRef:
        """The packet is DHCP or DHCPv6, between the ports of servers and clients, with a server's address."""
        packet, cases = self._packet, []
        for version, (server, client) in DHCP_PORTS.items() if self._policy.uses_dhcp else ():
            addresses, theirs, ours = (
                (packet.saddr, packet.sport, packet.dport)
                if inward
                else (packet.daddr, packet.dport, packet.sport)
            )
            servers = union((int(first), int(last)) for first, last in DHCP_SERVERS[version])
            is_server = z3.And(packet.is_version(version), self._sets.member(addresses[version], servers))
            cases.append(z3.And(packet.protocol(UDP), is_server, theirs == server, ours == client))
        return z3.Or(cases)

    def _allowed(self, name: str, key: Sequence[z3.BitVecRef]) -> z3.BoolRef:
        """The policy permits this session: (staff, port's interface, instrument, protocol, desktop port).

        A bridged one is (staff, tunnel, box, …), and (box, port's interface, instrument, …).
        """
        (version,) = (version for version, of_version in SESSIONS.items() if of_version == name)
        tunnel, number_of = self._policy.tunnel, self._packet.interfaces.number
        if tunnel is None:
            return z3.BoolVal(False)
        staff, interface, instrument, *service = key
        from_staff = self._sets.member(staff, _intervals(tunnel.staff, version))
        at_box = z3.BoolVal(False)
        if tunnel.address and tunnel.address.version == version:
            is_box = interface == number_of(tunnel.interface), instrument == int(tunnel.address)
            at_box = z3.And(from_staff, *is_box)
        desktops = []
        for port in self._policy.ports:
            offered = self._sets.member_of_rows(service, list(map(_pair, port.desktop)))
            own = [a.ip for a in port.addresses if a.version == version and version in self._bridges]
            from_box = z3.Or([staff == int(address) for address in own])
            at_port = z3.And(
                interface == number_of(port.interface),
                self._sets.member(instrument, _instruments(port, version)),
                z3.Or(from_staff, from_box),
            )
            desktops.append(z3.And(offered, z3.Or(at_port, at_box)))
        return z3.Or(desktops)

    def _in_session(self) -> z3.BoolRef:
        """The packet is forwarded in an open session."""
        packet = self._packet
        versions = SESSIONS if self._policy.tunnel else ()
        requests, replies = self._at_any(self._tunnel), self._to_any(self._tunnel)
        return self._of_session(versions, requests, packet.oif, replies, packet.iif)

    def _bridged_in(self) -> z3.BoolRef:
        """The packet is a request of staff to the box, or an answer of an instrument, in an open session."""
        iif = self._packet.iif
        requests, replies = self._at_any(self._tunnel), self._at_any(self._ports)
        return self._of_session(self._bridges, requests, iif, replies, iif)

    def _bridged_out(self) -> z3.BoolRef:
        """The packet is a request to an instrument, or an answer to staff, in an open session."""
        oif = self._packet.oif
        requests, replies = self._to_any(self._ports), self._to_any(self._tunnel)
        return self._of_session(self._bridges, requests, oif, replies, oif)

    def _of_session(
        self,
        versions: Iterable[int],
        requests: z3.BoolRef,
        requests_end: z3.BitVecRef,
        replies: z3.BoolRef,
        replies_end: z3.BitVecRef,
    ) -> z3.BoolRef:
        """The packet is one of these requests or replies, and of an open session with this interface at its end."""
        packet, cases = self._packet, []
        begun = z3.And(packet.is_in("new", "established"), packet.direction == 0)
        for version in versions:
            source, destination, name = packet.saddr[version], packet.daddr[version], SESSIONS[version]
            request_key = (source, requests_end, destination, packet.l4proto, packet.dport)
            reply_key = (destination, replies_end, source, packet.l4proto, packet.sport)
            original = z3.And(requests, begun, self._ruleset.session(name, request_key))
            reply = z3.And(replies, self._answer(), self._ruleset.session(name, reply_key))
            cases.append(z3.And(packet.is_version(version), packet.transport, z3.Or(original, reply)))
        return z3.Or(cases)

    def _permitted_session(self) -> z3.BoolRef:
        return z3.And(self._not_foreign_anywhere(), self._beginning_or_any(), self._in_session())


def _pair(service: Service) -> tuple[Intervals, Intervals]:
    protocol = PROTOCOLS[service.protocol]
    return ((protocol, protocol),), ((service.port, service.port),)


def _intervals(networks: Iterable[Network], version: int) -> Intervals:
    return union((int(n.network_address), int(n.broadcast_address)) for n in networks if n.version == version)


def _instruments(port: PolicyPort, version: int) -> Intervals:
    """Return the addresses that an instrument on the port may have."""
    bits = 32 if version == 4 else 128
    own = [address for address in port.addresses if address.version == version]
    excluded = union((int(a), int(a)) for address in own for a in reserved(address))
    free = complement(excluded, bits)
    subnets = _intervals([address.network for address in own], version)
    return union(
        (max(low, first), min(high, last))
        for first, last in subnets
        for low, high in free
        if max(low, first) <= min(high, last)
    )
