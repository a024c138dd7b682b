"""Random packets to test a firewall: packets that its policy allows, and packets that differ slightly from these.

A packet group is a few packets that belong together: one packet, the fragments of one, or a conversation in both
directions. The seed determines all groups. Ports and identifiers are numbered consecutively, so that few groups use
the same connection.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from ipaddress import ip_address
from random import Random
from struct import pack
from typing import Final, NamedTuple, TypeAlias

from bench.firewall.namespace import LINK_LOCAL, ROUTERS, UPLINK
from netfw.model import packet as p
from netfw.policy.policy import Policy

OUT: Final = ""


class InjectedPacket(NamedTuple):
    """One packet: the interface where it arrives, or OUT if the box sends it, and its bytes from the IP header on."""

    iif: str
    data: bytes


PacketGroup: TypeAlias = tuple[InjectedPacket, ...]

_SPECIAL: Final = {
    4: ("0.0.0.0", "127.0.0.1", "127.9.9.9", "224.0.0.1", "224.0.0.251", "239.1.1.1", "255.255.255.255",
        "169.254.1.1", "240.0.0.1", "0.1.2.3", "198.51.100.255", "198.51.100.0"),
    6: ("::", "::1", "::ffff:10.77.1.5", "fe80::5", "ff02::1", "ff02::2", "ff02::16", "ff05::2", "ff0e::1",
        "ff02::1:ff00:b", "ff02::1:ff00:1", "ff02::1:ff77:77", "ff01::1", "fe80::", LINK_LOCAL, "::10.0.0.1"),
}  # fmt: skip
_FLAGS: Final = (p.SYN, p.ACK, p.SYN | p.ACK, p.FIN | p.ACK, p.RST, p.RST | p.ACK, p.PSH | p.ACK, 0, p.FIN)
_ICMP_TYPES: Final = {
    4: (0, 3, 4, 5, 8, 9, 10, 11, 12, 13, 17, 30),
    6: (1, 2, 3, 4, 128, 129, *range(130, 144), 151, 152, 153, 154),
}
_OTHERS: Final = (2, 4, 41, 47, 50, 51, 59, 88, 89, 103, 112, 132, 136, 253)
_OPTIONS: Final = (b"\x01\x01\x01\x01", b"\x94\x04\x00\x00", b"\x07\x07\x04\0\0\0\0\0", b"\x83\x07\x04\1\2\3\4\0",
                   b"\x88\x01\0\0", b"\x00\xff\xff\xff")  # fmt: skip
_TCP_OPTIONS: Final = (
    b"", b"\x02\x04\x05\xb4", b"\x01\x03\x03\x07", b"\x04\x02\x01\x01", b"\x02\x04\x05\xb4\x01\x03\x03\x02",
    b"\x01\x01\x08\x0a\0\0\0\1\0\0\0\2", b"\x63\x00\x01\x01",
)  # fmt: skip


class PacketGenerator:
    """Generates packet groups for a box with a policy and sessions: (staff, port, instrument, desktop port)."""

    def __init__(
        self,
        policy: Policy,
        idle: tuple[str, ...],
        sessions: tuple[tuple[str, str, str, int], ...],
        seed: int,
    ) -> None:
        self.random = Random(seed)
        self.policy = policy
        self.sessions = sessions
        self.number = self.random.randrange(1 << 16)
        tunnel = [policy.tunnel.interface] if policy.tunnel else []
        self.interfaces = [*policy.outside, *(port.interface for port in policy.ports), *tunnel, *idle]
        self.own = [str(own.ip) for port in policy.ports for own in port.addresses] + [
            t.split("/")[0] for t in UPLINK
        ]
        self.inside = {
            port.interface: [str(own.network[5]) for own in port.addresses] for port in policy.ports
        }
        self.edges = [
            str(edge)
            for port in policy.ports
            for own in port.addresses
            for edge in (
                own.network[0],
                own.network[1],
                own.network[-1],
                own.network[0] - 1,
                own.network[-1] + 1,
            )
        ]
        self.authorized = [str(network[0]) for entry in policy.authorized for network in entry.networks]
        self.authorized += [str(network[-1]) for entry in policy.authorized for network in entry.networks]
        beyond = [
            network[-1] + 1
            for entry in policy.authorized
            for network in entry.networks
            if int(network[0]) > 0
        ]
        self.outside = ["192.0.2.77", "2001:db8:dead::1", *ROUTERS, *map(str, beyond)]
        self.staff = [str(network[7]) for network in policy.tunnel.staff] if policy.tunnel else []
        self.services = sorted({service.port for port in policy.ports for service in port.services})
        self.services += sorted({service.port for entry in policy.authorized for service in entry.services})
        self.services += [500, 4500]
        self.kinds: list[tuple[int, Callable[[], PacketGroup]]] = [
            (52, self.single),
            (8, self.output),
            (8, self.fragments),
            (6, self.neighbours),
            (5, self.answered),
            (5, self.served),
            (3, self.session),
            (3, self.quoting),
        ]

    def groups(self) -> Iterator[PacketGroup]:
        """Yield groups endlessly."""
        weights = [weight for weight, _ in self.kinds]
        makers = [make for _, make in self.kinds]
        while True:
            for make in self.random.choices(makers, weights, k=256):
                yield make()

    # Parts

    def next(self) -> int:
        self.number = self.number + 1 & 0xFFFFFF
        return self.number

    def family(self) -> int:
        return self.random.choice((4, 6))

    def choose(self, family: int, *lists: list[str]) -> str:
        fitting = [text for texts in lists for text in texts if (":" in text) == (family == 6)]
        return self.random.choice(fitting) if fitting else self.random.choice(_SPECIAL[family])

    def source(self, interface: str, family: int) -> str:
        """Return a source address, usually one that belongs to the interface."""
        r = self.random.random()
        if r < 0.6:
            return self.choose(
                family,
                self.inside.get(interface, self.staff if interface.startswith("tun") else self.outside),
            )
        if r < 0.7:
            return self.choose(family, self.authorized)
        return self.any_address(family)

    def any_address(self, family: int) -> str:
        r = self.random.random()
        if r < 0.15:
            return self.choose(family, list(_SPECIAL[family]))
        if r < 0.2:
            return str(
                ip_address(
                    self.random.getrandbits(32 if family == 4 else 128).to_bytes(
                        family * family - 12 if family == 4 else 16
                    )
                )
            )
        return self.choose(
            family, self.own, self.edges, self.authorized, self.outside, self.staff, *self.inside.values()
        )

    def destination(self, family: int) -> str:
        return self.choose(family, self.own) if self.random.random() < 0.5 else self.any_address(family)

    def port(self) -> int:
        r = self.random.random()
        if r < 0.6:
            return self.random.choice((*self.services, 443, 5900, 22, 53, 123))
        return (
            max(0, self.random.choice((*self.services, 500, 4500)) + self.random.choice((-1, 1)))
            if r < 0.8
            else self.random.randrange(65536)
        )

    def sport(self) -> int:
        return 1024 + self.next() % 64000 if self.random.random() < 0.8 else self.port()

    def body(self) -> bytes:
        return self.random.randbytes(self.random.choice((0, 0, 1, 4, 7, 8, 20, 61)))

    def transport(self, source: str, destination: str, protocol: int) -> bytes:
        """Return a segment with a correct checksum, or random bytes for protocols without ports."""
        family = 4 if "." in source and ":" not in source else 6
        random = self.random
        if protocol == p.TCP:
            options = random.choice(_TCP_OPTIONS) if random.random() < 0.2 else b""
            flags = random.choice(_FLAGS) if random.random() < 0.9 else random.randrange(256)
            head = pack("!HHIIBBHHH", self.sport(), self.port(), random.getrandbits(32), random.getrandbits(32),
                        (5 + len(options) // 4) << 4, flags, random.choice((0, 1, 512, 65535)), 0, 0)  # fmt: skip
            return p.with_checksum(source, destination, protocol, head + options + self.body(), 16)
        if protocol == p.UDP:
            body = self.body()
            return p.with_checksum(
                source,
                destination,
                protocol,
                pack("!HHHH", self.sport(), self.port(), 8 + len(body), 0) + body,
                6,
            )
        if protocol in (p.ICMP, p.ICMPV6):
            kind = random.choice(_ICMP_TYPES[family]) if random.random() < 0.9 else random.randrange(256)
            message = (
                pack("!BBHHH", kind, random.choice((0, 0, 1, 4)), 0, self.next() & 0xFFFF, 1) + self.body()
            )
            return p.with_checksum(source, destination, protocol, message, 2)
        if protocol == p.UDPLITE:
            return p.with_checksum(
                source, destination, protocol, pack("!HHHH", self.sport(), self.port(), 0, 0) + self.body(), 6
            )
        return random.randbytes(random.choice((0, 3, 4, 8, 12, 16, 40)))

    def damage(self, segment: bytes) -> bytes:
        """Sometimes damage a segment: flip a bit, cut it off, or append bytes."""
        r = self.random.random()
        if r > 0.1 or not segment:
            return segment
        if r < 0.05:
            offset = self.random.randrange(len(segment))
            return (
                segment[:offset]
                + bytes((segment[offset] ^ 1 << self.random.randrange(8),))
                + segment[offset + 1 :]
            )
        return segment[: self.random.randrange(len(segment))] if r < 0.08 else segment + b"extra"

    def damage_header(self, data: bytes) -> bytes:
        r = self.random.random()
        if r > 0.02:
            return data
        if r < 0.005:
            return data + bytes(9)  # padding after the end
        if r < 0.01:
            return data[:-1] if len(data) > 40 else data
        offset = self.random.choice((0, 2, 10)) if data[0] >> 4 == 4 else self.random.choice((4, 5))
        return (
            data[:offset]
            + bytes(
                (data[offset] ^ 1 << self.random.randrange(8) & 0x3F if offset == 0 else data[offset] ^ 4,)
            )
            + data[offset + 1 :]
        )

    def random_packet(self, family: int, source: str, destination: str) -> bytes:
        """Return one packet with random headers."""
        random = self.random
        usual = (p.TCP, p.TCP, p.TCP, p.UDP, p.UDP, p.ICMP if family == 4 else p.ICMPV6)
        protocol = (
            random.choice(usual)
            if random.random() < 0.85
            else random.choice((*_OTHERS, random.randrange(1, 256), 1, 58))
        )
        segment = self.damage(self.transport(source, destination, protocol))
        hops = random.choice((64, 64, 64, 255, 2, 1))
        if family == 4:
            options = self.options() if random.random() < 0.1 else b""
            return p.ip(
                source,
                destination,
                protocol,
                segment,
                hops=hops,
                identifier=self.next() & 0xFFFF,
                options=options,
            )
        if random.random() < 0.1:
            protocol, segment = self.extended(protocol, segment)
        return p.ip(source, destination, protocol, segment, hops=hops)

    def extended(self, protocol: int, segment: bytes) -> tuple[int, bytes]:
        """Return the payload after IPv6 extension headers (RFC 8200, section 4)."""
        for kind in self.random.choices(
            (p.DESTINATION, p.ROUTING, p.AH, p.NO_NEXT, p.FRAGMENT), k=self.random.randrange(1, 3)
        ):
            if kind == p.AH:
                segment = bytes((protocol, 4)) + bytes(22) + segment
            elif kind == p.ROUTING:
                segment = bytes((protocol, 0, 3, 0)) + bytes(4) + segment
            elif kind == p.FRAGMENT:
                segment = pack("!BBHI", protocol, 0, 0, self.next()) + segment
            elif kind == p.DESTINATION:
                segment = bytes((protocol, 0, 1, 4, 0, 0, 0, 0)) + segment
            protocol = kind
        if self.random.random() < 0.5:
            segment, protocol = self.hop_by_hop(protocol) + segment, p.HOP_BY_HOP
        return protocol, segment

    def options(self) -> bytes:
        """Return options of an IPv4 header: common ones, and ones with one or more errors."""
        random = self.random
        if random.random() < 0.3:
            return random.choice(_OPTIONS)
        options = b""
        for _ in range(random.randrange(1, 4)):
            kind = random.choice((0, 1, 7, 68, 68, 131, 137, 148, 136, 134, 3, 9, random.randrange(256)))
            length = random.choice((0, 1, 2, 3, 4, 7, 8, 11, 12, 40))
            pointer = random.choice((0, 3, 4, 5, 8, 9, 12, 13, 255))
            flags = random.choice((0, 1, 3, 2, 0xF0, 0xF1, 0xF3, 0x20))
            options += (bytes((kind, length, pointer, flags)) + random.randbytes(8))[
                : max(1, min(length, 12))
            ]
        options = options[:40]
        return options + random.choice((b"\0", b"\1")) * (-len(options) % 4)

    def hop_by_hop(self, protocol: int) -> bytes:
        """Return an IPv6 hop-by-hop header, valid or not (RFC 8200, section 4.3; RFC 2675)."""
        random = self.random
        if random.random() < 0.3:
            return bytes((protocol, 0, 1, 4, 0, 0, 0, 0))
        options = b""
        for _ in range(random.randrange(1, 5)):
            kind = random.choice(
                (0, 0, 1, 1, 5, 0xC2, 0xC2, 49, 7, 0x1E, 0x3E, 0x5E, 0x9E, random.randrange(256))
            )
            length = random.choice((0, 1, 2, 4, 4, 6, 8, 200))
            zeros = kind == 1 and random.random() < 0.8
            body = (
                bytes(length)
                if zeros
                else random.choice((bytes((0, 1, 0, 0)), random.randbytes(4), bytes(4)))
            )
            options += (
                b"\0" if kind == 0 else bytes((kind, length)) + body.ljust(min(length, 8), b"\0")[:length]
            )
        room = -(len(options) + 2) % 8
        options += b"" if not room else b"\0" if room == 1 else bytes((1, room - 2)) + bytes(room - 2)
        length_units = (len(options) + 2) // 8 - 1
        return bytes((protocol, length_units if random.random() < 0.9 else random.randrange(40))) + options

    # Groups

    def single(self) -> PacketGroup:
        """Return a random packet from a random interface."""
        interface, family = self.random.choice(self.interfaces), self.family()
        data = self.random_packet(family, self.source(interface, family), self.destination(family))
        return (InjectedPacket(interface, self.damage_header(data)),)

    def output(self) -> PacketGroup:
        """Return a random packet that the box sends, to a destination with a route."""
        family = self.family()
        destination = self.choose(
            family,
            self.authorized,
            self.authorized,
            self.outside,
            self.own,
            *self.inside.values(),
            self.staff,
        )
        source = (
            self.choose(family, self.own) if self.random.random() < 0.9 else self.choose(family, self.outside)
        )
        return (InjectedPacket(OUT, self.random_packet(family, source, destination)),)

    def neighbours(self) -> PacketGroup:
        """Return a neighbour discovery or multicast listener message, valid or not."""
        interface, random = self.random.choice(self.interfaces), self.random
        source = random.choice(("fe80::5", "fe80::5", "::", self.source(interface, 6)))
        destination = random.choice(
            ("ff02::1", "ff02::1:ff00:b", "ff02::1:ff00:1", LINK_LOCAL, self.choose(6, self.own), "ff02::16")
        )
        kind = random.choice((130, 131, 132, 133, 134, 135, 135, 136, 136, 137, 143, 128))
        body = bytes(4) + ip_address(destination).packed
        data = p.icmp(
            source,
            destination,
            kind,
            random.choice((0, 0, 0, 1)),
            body,
            hops=random.choice((255, 255, 1, 254, 64)),
        )
        return (InjectedPacket(interface, data),)

    def fragments(self) -> PacketGroup:
        """Return the fragments of a packet: complete or not, in any order, with duplicates and overlaps."""
        random, family = self.random, self.family()
        interface = random.choice(self.interfaces)
        source, destination = self.source(interface, family), self.destination(family)
        protocol = random.choice((p.TCP, p.UDP, p.ICMP if family == 4 else p.ICMPV6, 50))
        segment = self.transport(source, destination, protocol) + random.randbytes(random.randrange(40))
        if protocol in (p.TCP, p.ICMP, p.ICMPV6):
            segment = p.with_checksum(source, destination, protocol, segment, 16 if protocol == p.TCP else 2)
        cuts = sorted(
            {0, *(8 * random.randrange(1, 2 + len(segment) // 8) for _ in range(random.randrange(4)))}
        )
        cuts = [cut for cut in cuts if cut < len(segment) or not cut]
        pieces = [
            (offset, segment[offset:end], end < len(segment))
            for offset, end in zip(cuts, [*cuts[1:], len(segment)], strict=True)
        ]
        r = random.random()
        if r < 0.15:
            pieces.pop(random.randrange(len(pieces)))
        elif r < 0.3:
            pieces.append(random.choice(pieces))
        elif r < 0.45:
            pieces.insert(
                random.randrange(len(pieces) + 1),
                (8 * random.randrange(6), random.randbytes(random.choice((8, 16, 5))), random.random() < 0.7),
            )
        if random.random() < 0.5:
            random.shuffle(pieces)
        identifier = self.next()
        return tuple(
            InjectedPacket(interface, self.fragment(source, destination, protocol, identifier, *piece))
            for piece in pieces
        )

    def fragment(
        self,
        source: str,
        destination: str,
        protocol: int,
        identifier: int,
        offset: int,
        part: bytes,
        more: bool,
    ) -> bytes:
        if ":" not in source:
            word = offset // 8 | (p.MORE_FRAGMENTS if more else 0)
            return p.ip(source, destination, protocol, part, fragment=word, identifier=identifier & 0xFFFF)
        return p.ip(
            source, destination, p.FRAGMENT, pack("!BBHI", protocol, 0, offset | more, identifier) + part
        )

    # Conversations

    def conversation(
        self, caller: str, sport: int, callee: str, dport: int, there: str, back: str
    ) -> list[InjectedPacket]:
        """Return a whole TCP connection, often cut off, reordered, or with an unexpected segment."""
        random = self.random
        caller_seq, callee_seq = random.getrandbits(32), random.getrandbits(32)
        body = random.randbytes(random.randrange(1, 30))

        def from_caller(flags: int, seq: int, ack: int, payload: bytes = b"") -> InjectedPacket:
            return InjectedPacket(
                there,
                p.tcp(caller, sport, callee, dport, flags, seq=seq & MASK, ack=ack & MASK, payload=payload),
            )

        def from_callee(flags: int, seq: int, ack: int, payload: bytes = b"") -> InjectedPacket:
            return InjectedPacket(
                back,
                p.tcp(callee, dport, caller, sport, flags, seq=seq & MASK, ack=ack & MASK, payload=payload),
            )

        MASK = 0xFFFFFFFF
        n = len(body)
        items = [
            from_caller(p.SYN, caller_seq, 0),
            from_callee(p.SYN | p.ACK, callee_seq, caller_seq + 1),
            from_caller(p.ACK, caller_seq + 1, callee_seq + 1),
            from_caller(p.PSH | p.ACK, caller_seq + 1, callee_seq + 1, body),
            from_callee(p.ACK, callee_seq + 1, caller_seq + 1 + n),
            from_callee(p.PSH | p.ACK, callee_seq + 1, caller_seq + 1 + n, body),
            from_caller(p.FIN | p.ACK, caller_seq + 1 + n, callee_seq + 1 + n),
            from_callee(p.FIN | p.ACK, callee_seq + 1 + n, caller_seq + 2 + n),
            from_caller(p.ACK, caller_seq + 2 + n, callee_seq + 2 + n),
        ]
        r = random.random()
        if r < 0.3:
            return items
        unexpected = [
            from_callee(p.RST | p.ACK, 0, caller_seq + 1),
            from_caller(p.RST, caller_seq + 1, 0),
            from_callee(p.RST, callee_seq + 1, 0),
            from_caller(p.SYN, caller_seq, 0),
            from_caller(p.SYN, caller_seq + 100_000, 0),
            from_callee(p.SYN, callee_seq, 0),
            from_caller(p.ACK, caller_seq + 5_000_000, callee_seq + 1),
            from_callee(p.ACK, callee_seq + 1, caller_seq + 5_000_000),
            from_caller(p.FIN, caller_seq + 1, 0),
            from_callee(p.SYN | p.ACK, callee_seq, caller_seq + 1),
            from_caller(p.RST | p.ACK, caller_seq + 1, callee_seq + 1),
        ]
        if r < 0.6:
            return items[: random.randrange(1, len(items))]
        if r < 0.9:
            index = random.randrange(1, len(items))
            return [*items[:index], random.choice(unexpected), *items[index:]]
        random.shuffle(items)
        return items

    def served(self) -> PacketGroup:
        """Return a connection of an instrument, or of another host, to a service of the box."""
        random = self.random
        port = random.choice(self.policy.ports)
        own = random.choice(port.addresses)
        caller = str(own.network[5 + random.randrange(100)])
        service = random.choice(port.services or (None,))
        there = port.interface if random.random() < 0.9 else random.choice(self.interfaces)
        if service is None or service.protocol == "tcp":
            dport = service.port if service and random.random() < 0.9 else self.port()
            return tuple(self.conversation(caller, self.sport(), str(own.ip), dport, there, OUT))
        sport = self.sport()
        ask = InjectedPacket(there, p.udp(caller, sport, str(own.ip), service.port, b"ask"))
        answer = InjectedPacket(OUT, p.udp(str(own.ip), service.port, caller, sport, b"answer"))
        return tuple(random.choices((ask, answer), k=4))

    def answered(self) -> PacketGroup:
        """Return a connection of the box to a host, mostly an authorized one, with its replies."""
        random, family = self.random, self.family()
        callee = (
            self.choose(family, self.authorized)
            if random.random() < 0.8
            else self.choose(family, self.outside, self.authorized)
        )
        source, sport, dport = UPLINK[family == 6].split("/")[0], self.sport(), random.choice(self.services)
        if random.random() < 0.7:
            return tuple(
                self.conversation(source, sport, callee, dport, OUT, self.policy.authorized_interface)
            )
        if random.random() < 0.5:
            ask = InjectedPacket(OUT, p.udp(source, sport, callee, dport, b"ask"))
            answer = InjectedPacket(
                self.policy.authorized_interface, p.udp(callee, dport, source, sport, b"answer")
            )
        else:
            kinds = (8, 0) if family == 4 else (128, 129)
            rest = pack("!HH", self.next() & 0xFFFF, 1)
            ask = InjectedPacket(OUT, p.icmp(source, callee, kinds[0], rest=rest))
            answer = InjectedPacket(
                self.policy.authorized_interface, p.icmp(callee, source, kinds[1], rest=rest)
            )
        return tuple(random.choices((ask, answer), k=4))

    def session(self) -> PacketGroup:
        """Return a connection from the staff: one that a session allows, or one that differs from it in one value."""
        if not self.sessions or self.policy.tunnel is None:
            return self.single()
        random = self.random
        staff, port, instrument, desktop = random.choice(self.sessions)
        r = random.random()
        if r < 0.1:
            staff = str(ip_address(staff) + 1)
        elif r < 0.2:
            desktop += 1
        elif r < 0.3:
            instrument = str(ip_address(instrument) + 1)
        there, back = self.policy.tunnel.interface, port
        if r > 0.95:
            there, back = back, there
        return tuple(self.conversation(staff, self.sport(), instrument, desktop, there, back))

    def quoting(self) -> PacketGroup:
        """Return a conversation with an ICMP error that quotes one of its packets."""
        random = self.random
        group = self.answered() if random.random() < 0.7 else self.served()
        first = p.parse(group[0].data)
        sender = ip_address(first.saddr) if first.family == 4 else ip_address(first.saddr.to_bytes(16))
        quoted = group[random.randrange(len(group))].data[: random.choice((28, 48, 60, 200, 20))]
        reporter = self.choose(first.family, self.outside)
        kind = random.choice((3, 3, 11, 12, 5, 4)) if first.family == 4 else random.choice((1, 1, 2, 3, 4))
        interface = group[0].iif or self.policy.uplink
        destination = str(sender) if random.random() < 0.8 else self.choose(first.family, self.own)
        index = random.randrange(1, len(group) + 1)
        return (
            *group[:index],
            InjectedPacket(interface, p.icmp(reporter, destination, kind, rest=bytes(4) + quoted)),
            *group[index:],
        )
