"""Converts an SMT model that refutes a theorem into a readable, sendable packet.

Any model is a valid counterexample, but familiar values are easier to understand. Irrelevant fields therefore get
ordinary values: each is requested in turn, and kept if the theorem is still refuted with it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any, Final

import z3

from netfw.model.packet import ACK, ESP, FIN, ICMP, ICMPV6, RST, SYN, TCP, UDP, Packet, parse, with_checksum
from netfw.model.packet import ip as ip_packet
from netfw.model.packet import tcp as tcp_packet
from netfw.policy.policy import Address, Policy
from netfw.proof.smt import MembershipTest
from netfw.proof.symbolic import FAMILIES, STATES, SymbolicPacket

STRANGERS: Final = (("198.51.100.77", "2001:db8:77::77"), ("198.51.100.88", "2001:db8:88::88"))
"""Documentation addresses (RFC 5737, RFC 3849), used as source and destination if any address will do."""
_NAMES: Final = {TCP: "tcp", UDP: "udp", ICMP: "icmp", ICMPV6: "icmpv6", ESP: "esp"}


@dataclass(frozen=True, slots=True)
class Counterexample:
    """One packet, and its connection tracking.

    `path` is "in", "through", "out", or "arriving" if it is not determined whether in or through.
    """

    path: str
    iif: str
    oif: str
    source: Address
    destination: Address
    protocol: int
    sport: int
    dport: int
    flags: int
    hops: int
    state: str
    reply: bool
    whole: bool = True
    sessions: tuple[tuple[Any, ...], ...] = ()
    """Elements that the session sets must have: (set, staff, interface, instrument, protocol, port)."""

    @property
    def packet(self) -> Packet:
        """Build the packet with valid checksums, truncated after the IP header if it is not `whole`."""
        iif, oif = self.iif if self.path != "out" else "", self.oif if self.path in ("through", "out") else ""
        data = ip_packet(self.source, self.destination, self.protocol, self._segment(), hops=self.hops)
        return parse(data, iif=iif, oif=oif)

    def _segment(self) -> bytes:
        if not self.whole:
            return b""
        ports = self.sport.to_bytes(2, "big") + self.dport.to_bytes(2, "big")
        checksum_at = {TCP: 16, UDP: 6, ICMP: 2, ICMPV6: 2}.get(self.protocol)
        if self.protocol == TCP:
            segment = ports + bytes(7) + b"\1" + bytes((5 << 4, self.flags)) + b"\xff\xff" + bytes(4)
        elif self.protocol == UDP:
            segment = ports + b"\0\x08\0\0"
        elif checksum_at is None:
            segment = ports + b"\0\0\0\1" + bytes(16)
        elif self.state == "related":  # quotes a packet of a connection in the other direction
            quoted = tcp_packet(self.destination, self.dport, self.source, self.sport, ACK)
            segment = ports[:2] + bytes(6) + quoted
        else:  # 24 bytes: type and code, and at offset 8 a neighbour's address, or irrelevant data
            segment = ports[:2] + bytes(6) + self.destination.packed.rjust(16, b"\0")
        if checksum_at is None:
            return segment
        return with_checksum(self.source, self.destination, self.protocol, segment, checksum_at)

    def __str__(self) -> str:
        """Format like `tcp 203.0.113.9:1234 → 10.77.1.1:443, in at enp1s0, new`."""
        parts = [f"{_NAMES.get(self.protocol, f'protocol {self.protocol}')} {self._ends()}"]
        parts += (
            [f"{'arriving' if self.path == 'arriving' else 'in'} at {self.iif}"] if self.path != "out" else []
        )
        parts += [f"out at {self.oif}"] if self.path in ("through", "out") else []
        tracked = self.state not in ("invalid", "untracked", "new")
        parts += [self.state + (" (reply)" if tracked and self.reply else " (original)" if tracked else "")]
        parts += [] if self.whole else ["truncated after the IP header"]
        return ", ".join(parts + [f"while {' . '.join(map(str, key))} is open" for _, *key in self.sessions])

    def _ends(self) -> str:
        if self.protocol not in (TCP, UDP):
            kind = (
                f", type {self.sport >> 8}, hop limit {self.hops}" if self.protocol in (ICMP, ICMPV6) else ""
            )
            return f"{self.source} → {self.destination}{kind}"
        left, right = ("[", "]") if self.source.version == 6 else ("", "")
        ends = f"{left}{self.source}{right}:{self.sport} → {left}{self.destination}{right}:{self.dport}"
        return ends + (f" [{_flag_names(self.flags)}]" if self.protocol == TCP and self.flags != SYN else "")


def counterexample(
    solver: z3.Solver,
    model: z3.ModelRef,
    packet: SymbolicPacket,
    policy: Policy,
    path: str,
    asked: Iterable[MembershipTest],
) -> Counterexample:
    """Return the packet of the solver's model, or a simpler one."""
    for wish in _preferences(packet, policy):
        solver.push()
        solver.add(wish)
        if (better := packet.sets.search(solver)) is not None:
            model = better
        else:
            solver.pop()
    return _Reader(model, packet).counterexample(path, asked)


class _Reader:
    def __init__(self, model: z3.ModelRef, packet: SymbolicPacket) -> None:
        self._model, self._packet, self._names = model, packet, packet.interfaces.names()

    def counterexample(self, path: str, asked: Iterable[MembershipTest]) -> Counterexample:
        packet, number = self._packet, self._number
        version = 4 if number(packet.family) == FAMILIES[4] else 6
        states = {bit: name for name, bit in STATES.items()}
        return Counterexample(
            path,
            self._names[number(packet.iif)],
            self._names[number(packet.oif)],
            _address(version, number(packet.saddr[version])),
            _address(version, number(packet.daddr[version])),
            number(packet.l4proto),
            number(packet.sport),
            number(packet.dport),
            number(packet.flags),
            number(packet.hops),
            states[number(packet.state)],
            number(packet.direction) == 1,
            z3.is_true(self._model.eval(z3.And(packet.transport, packet.whole), model_completion=True)),
            tuple(
                dict.fromkeys(
                    self._session(name, key) for name, key, open_ in asked if self._holds(open_, key)
                )
            ),
        )

    def _number(self, value: z3.BitVecRef) -> int:
        return int(self._model.eval(value, model_completion=True).as_long())

    def _holds(self, open_: Any, key: tuple[Any, ...]) -> bool:
        has_family = str(key[0]).endswith("4") == (self._number(self._packet.family) == FAMILIES[4])
        return has_family and z3.is_true(self._model.eval(open_))

    def _session(self, name: str, key: tuple[Any, ...]) -> tuple[Any, ...]:
        values = [self._number(value) for value in key]
        if len(values) != 5:
            return name, *values
        staff, interface, instrument, protocol, port = values
        version = 4 if key[0].size() == 32 else 6
        known = self._names[interface] if interface < len(self._names) else self._names[0]
        return (
            name,
            _address(version, staff),
            known,
            _address(version, instrument),
            _NAMES.get(protocol, protocol),
            port,
        )


def _preferences(packet: SymbolicPacket, policy: Policy) -> Iterator[z3.BoolRef]:
    yield z3.And(packet.transport, packet.whole)
    yield packet.is_version(4)
    yield packet.is_in("new", "untracked")
    yield packet.is_in("new")
    yield packet.protocol(TCP, UDP)
    yield packet.protocol(TCP)
    yield packet.flags == z3.If(packet.is_in("new"), z3.BitVecVal(SYN, 8), z3.BitVecVal(ACK, 8))
    yield z3.Or(packet.flags == SYN, packet.flags == ACK)  # other flags do not begin a connection
    yield packet.hops == 64
    for interface in (packet.iif, packet.oif):
        yield interface != packet.interfaces.number("lo")
        yield interface != 0
    own = [str(own.ip) for port in policy.ports[:2] for own in port.addresses]
    near = [str(own.ip + 9) for port in policy.ports[:2] for own in port.addresses]
    staff = [str(n.network_address + 5) for n in policy.tunnel.staff[:2]] if policy.tunnel else []
    sources, destinations = near + staff, own + near[2:] + near[:2] + staff
    for addresses, candidates, unexpected in zip(
        (packet.saddr, packet.daddr), (sources, destinations), STRANGERS, strict=True
    ):
        for candidate in (*unexpected, *candidates):
            address = ip_address(candidate)
            yield addresses[address.version] == int(address)
    yield packet.sport == 1234
    yield packet.dport == 443
    yield packet.dport != 0


def _address(version: int, number: int) -> Address:
    return ip_address(number.to_bytes(4 if version == 4 else 16, "big"))


def _flag_names(flags: int) -> str:
    parts = {
        FIN: "FIN",
        SYN: "SYN",
        RST: "RST",
        0x08: "PSH",
        0x10: "ACK",
        0x20: "URG",
        0x40: "ECE",
        0x80: "CWR",
    }
    return " ".join(name for bit, name in parts.items() if flags & bit) or "no flags"
