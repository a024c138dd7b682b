"""A symbolic packet: all fields are unknowns, for which z3 finds values that refute a theorem.

It is constrained only by what Linux guarantees by construction: it has exactly one conntrack state, new packets have
the original direction, packets without a connection have no direction, and ICMP that is related to a connection is
one of the messages that quote it. Everything else is possible: reserved flags, ports that are parts of a checksum, a
truncated transport header. A proof for this packet is therefore a proof for all packets.

Fields are numbers. Interfaces are numbered among the names in policy and listing; one number stands for all other
interfaces.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import z3

from netfw.model.packet import ICMP, ICMPV6, TCP, UDP
from netfw.model.values import SYMBOLS, RulesetError, bits, bounds
from netfw.proof.tries import Interval, Intervals, Memberships, union

INTERFACE_BITS: Final = 16
FAMILIES: Final = {4: SYMBOLS["nf_proto"]["ipv4"], 6: SYMBOLS["nf_proto"]["ipv6"]}
STATES: Final = SYMBOLS["ct_state"]


class Unproven(RulesetError):
    """The listing contains something unsupported, so that nothing can be proved about the ruleset."""

    def __init__(self, content: object) -> None:
        super().__init__(f"the listing contains {str(content)[:200]}, which the proof does not support")


class PacketTerm(NamedTuple):
    """A field of the packet. Where it is not `valid`, the kernel ends the rule that reads it."""

    valid: z3.BoolRef
    value: z3.BitVecRef
    kind: str


class Interfaces:
    """Numbers for interface names, assigned on first use; 0 stands for every other interface."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def number(self, name: str) -> int:
        """Return the number of a name, always the same."""
        return self._numbers.setdefault(name, len(self._numbers) + 1)

    def names(self) -> list[str]:
        """Return the names in order of their numbers."""
        other = next(
            name for n in range(len(self._numbers) + 1) if (name := f"other{n}") not in self._numbers
        )
        return [other, *self._numbers]


class SymbolicPacket:
    """The symbolic packet. z3 identifies variables by name, so that all instances are the same packet."""

    def __init__(self) -> None:
        number = z3.BitVec
        self.interfaces, self.sets = Interfaces(), Memberships()
        self.family = number("family", 8)
        self.iif, self.oif = number("iif", INTERFACE_BITS), number("oif", INTERFACE_BITS)
        self.saddr = {4: number("saddr4", 32), 6: number("saddr6", 128)}
        self.daddr = {4: number("daddr4", 32), 6: number("daddr6", 128)}
        self.hops = number("hops", 8)
        self.l4proto = number("l4proto", 8)
        self.sport, self.dport = number("sport", 16), number("dport", 16)
        self.flags = number("flags", 8)
        self.state, self.direction = number("state", 8), number("direction", 8)
        self.transport = z3.Bool("transport")
        """Whether nftables found a transport header; it does not after invalid IPv6 extension headers."""
        self.whole = z3.Bool("whole")
        """Whether the transport header is complete."""

    def guarantees(self) -> z3.BoolRef:
        """Return Linux's guarantees for each packet in a chain after connection tracking."""
        last = len(self.interfaces.names()) - 1
        return z3.And(
            z3.Or([self.family == family for family in FAMILIES.values()]),
            z3.Or([self.state == state for state in STATES.values()]),
            z3.ULE(self.direction, 1),
            z3.Implies(self.is_in("new"), self.direction == 0),
            # nf_conntrack_proto_icmp.c (icmp_is_err) and nf_conntrack_proto_icmpv6.c relate no other ICMP messages
            z3.Implies(z3.And(self.is_in("related"), self.protocol(ICMP, ICMPV6)), self.quotes()),
            z3.ULE(self.iif, last),
            z3.ULE(self.oif, last),
        )

    def is_version(self, version: int) -> z3.BoolRef:
        """Return whether it is IPv4 or IPv6."""
        return self.family == FAMILIES[version]

    def is_in(self, *states: str) -> z3.BoolRef:
        """Return whether its conntrack state is one of these."""
        return z3.Or([self.state == STATES[state] for state in states])

    def tracked(self) -> z3.BoolRef:
        """Return whether it belongs to a connection, and so has a direction."""
        return z3.Not(self.is_in("invalid", "untracked"))

    def protocol(self, *numbers: int) -> z3.BoolRef:
        """Return whether its transport protocol is one of these."""
        return z3.And(self.transport, z3.Or([self.l4proto == number for number in numbers]))

    def quotes(self) -> z3.BoolRef:
        """Return whether it is an ICMP message that quotes another packet."""
        return z3.Or(self.icmp(4, 3, 4, 5, 11, 12), z3.And(self.icmp(6), z3.ULT(self.icmp_type(), 128)))

    def icmp(self, version: int, *types: int) -> z3.BoolRef:
        """Return whether it is readable ICMP of that IP version, with one of these types if any are given."""
        types_match = [z3.Or([self.icmp_type() == kind for kind in types])] if types else []
        protocol = self.protocol(ICMP if version == 4 else ICMPV6)
        return z3.And(self.is_version(version), protocol, self.whole, *types_match)

    def icmp_type(self) -> z3.BitVecRef:
        """Return the first byte of the transport header, which is also the first byte of a source port."""
        return z3.Extract(15, 8, self.sport)

    def term(self, expression: Any) -> PacketTerm:
        """Return the field that an expression of the listing reads. Raises: Unproven."""
        match expression:
            case {"payload": {"protocol": str(header), "field": str(field), **rest}} if not rest:
                return self._payload(header, field, expression)
            case {"meta": {"key": str(key), **rest}} if not rest:
                return self._meta(key, expression)
            case {"ct": {"key": "state", **rest}} if not rest:
                return PacketTerm(z3.BoolVal(True), self.state, "ct_state")
            case {"ct": {"key": "direction", **rest}} if not rest:
                return PacketTerm(self.tracked(), self.direction, "ct_dir")
            case {"&": [field, mask]}:
                valid, value, kind = self.term(field)
                return PacketTerm(valid, value & bits(kind, mask), kind)
        raise Unproven(expression)

    def _payload(self, header: str, field: str, expression: Any) -> PacketTerm:
        carried = {"tcp": TCP, "udp": UDP, "icmp": ICMP, "icmpv6": ICMPV6}
        readable = z3.And(self.transport, self.whole)
        if header in carried:
            readable = z3.And(readable, self.l4proto == carried[header])
        match header, field:
            case (("ip" | "ip6"), ("saddr" | "daddr")):
                version = 4 if header == "ip" else 6
                address = (self.saddr if field == "saddr" else self.daddr)[version]
                return PacketTerm(self.is_version(version), address, f"ipv{version}_addr")
            case ("ip", "ttl") | ("ip6", "hoplimit"):
                return PacketTerm(self.is_version(4 if header == "ip" else 6), self.hops, "integer")
            case (("th" | "tcp" | "udp"), ("sport" | "dport")):
                return PacketTerm(readable, self.sport if field == "sport" else self.dport, "inet_service")
            case "tcp", "flags":
                return PacketTerm(readable, self.flags, "tcp_flag")
            # in an inet table, nft implies a match of the IP version for these
            case "icmp", "type":
                return PacketTerm(z3.And(self.is_version(4), readable), self.icmp_type(), "icmp_type")
            case "icmpv6", "type":
                return PacketTerm(z3.And(self.is_version(6), readable), self.icmp_type(), "icmpv6_type")
        raise Unproven(expression)

    def _meta(self, key: str, expression: Any) -> PacketTerm:
        always = z3.BoolVal(True)
        match key:
            case "iifname":
                return PacketTerm(always, self.iif, "ifname")
            case "oifname":
                return PacketTerm(always, self.oif, "ifname")
            case "nfproto":
                return PacketTerm(always, self.family, "nf_proto")
            case "l4proto":
                return PacketTerm(self.transport, self.l4proto, "inet_proto")
        raise Unproven(expression)

    def intervals(self, kind: str, written: Any) -> Intervals:
        """Return the values of a literal: a symbol, number, prefix or range, or a set of these. Raises: Unproven."""
        match written:
            case {"set": list(members)}:
                return union(interval for each in members for interval in self.intervals(kind, each))
            case {"elem": {"val": value, **rest}} if set(rest) <= {"timeout", "expires", "comment"}:
                return self.intervals(kind, value)
        return (self._bounds(kind, written),)

    def _bounds(self, kind: str, written: Any) -> Interval:
        try:
            if kind == "ct_state" and isinstance(written, list):
                raise Unproven(written)
            first, last = bounds(kind, written)
        except (ValueError, TypeError) as error:
            raise Unproven(f"{written!r} as {kind}") from error
        if isinstance(first, str):
            first = last = self.interfaces.number(first)
        assert isinstance(last, int), "only interface names are not numbers, and they have no ranges"
        return first, last
