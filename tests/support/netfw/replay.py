"""Sends a counterexample of the proof to a real kernel, to check whether it accepts the packet as the proof predicts.

The box has the policy's interfaces and unused ones, all connected to one other namespace. The packet's connection
tracking state is created beforehand. A table of the test counts packets after the firewall's chains, at the end of
the hook: a packet that is counted there was accepted.
"""

from __future__ import annotations

import ipaddress
import json
import select
import socket
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from netfw.kernel.netlink import NESTED, attribute, netfilter_socket, request
from netfw.kernel.nft import Nft
from netfw.model.packet import TCP
from netfw.policy.policy import Policy
from netfw.proof.counterexample import Counterexample
from tests.support.namespaces import Namespace, namespaces

BOX, WIRE = "02:00:00:00:00:01", "02:00:00:00:00:02"
HOOK_SECONDS = 0.2
"""The time that a packet needs to pass all chains of its hook, on a busy processor."""
ARRIVAL_SECONDS_MAX = 5
"""The limit for the arrival of a packet at its first hook."""
HOOKS = {
    "arriving": ("prerouting", -299),
    "in": ("input", 999),
    "through": ("forward", 999),
    "out": ("output", 999),
}
"""The hook and priority of the counter, by path; "arriving" means the chain before connection tracking."""
CONFIRMED, SEEN_REPLY, ASSURED = 8, 2, 4
UNUSED = ("enp4s0", "other0")
NEW_ENTRY, CREATE = 1 << 8, 0x400


@dataclass
class Bench:
    """The box, and the hosts at the other ends of its cables."""

    box: Namespace
    wire: Namespace
    nft: Nft

    def accepts(self, packet: Counterexample) -> bool:
        """Return whether the packet passes all chains of its hook."""
        self._prepare(packet)
        self._observe(packet)
        self._send(packet)
        # the cable delivers before send() returns, or soon after on a busy machine
        if not self._is_counted("seen", ARRIVAL_SECONDS_MAX):
            raise AssertionError(f"{packet} did not reach its hook")
        return self._is_counted("observer", HOOK_SECONDS)

    def _is_counted(self, name: str, seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while not (counted := self._has_count(name)) and time.monotonic() < deadline:
            select.select([], [], [], 0.01)
        return counted

    def _prepare(self, packet: Counterexample) -> None:
        where, other = packet.destination, packet.source
        bits = where.max_prefixlen
        nodad = " nodad" if where.version == 6 else ""
        if packet.path == "in":
            self.box.ip(f"addr add {where}/{bits} dev lo{nodad}")
        elif packet.path in ("through", "out"):
            self.box.ip(
                f"route add {where}/{bits} dev {packet.oif}",
                f"neigh add {where} lladdr {WIRE} dev {packet.oif} nud permanent",
            )
        if packet.state in ("established", "related"):
            first = (other, where, packet.sport, packet.dport)
            back = (where, other, packet.dport, packet.sport)
            protocol = TCP if packet.state == "related" else packet.protocol
            self.box.run(lambda: _track(protocol, *((back, first) if packet.reply else (first, back))))
        for name, staff, interface, instrument, protocol, port in packet.sessions:
            key = {"concat": [str(staff), interface, str(instrument), protocol, port]}
            element = {"elem": {"val": key, "timeout": 3600}}
            self.nft.run(
                [{"add": {"element": {"family": "inet", "table": "rap", "name": name, "elem": [element]}}}]
            )

    def _observe(self, packet: Counterexample) -> None:
        version = "ip" if packet.source.version == 4 else "ip6"
        match = f"{version} saddr {packet.source} {version} daddr {packet.destination} meta l4proto {packet.protocol}"
        hook, priority = HOOKS[packet.path]
        entrance = "output" if packet.path == "out" else "prerouting"
        mark = "notrack" if packet.state == "untracked" else ""
        self.box.command(
            "nft",
            "-f",
            "-",
            input=f"""table inet observer {{
                counter seen {{ }}
                counter observer {{ }}
                chain first {{ type filter hook {entrance} priority -310; {match} counter name seen {mark}; }}
                chain last {{ type filter hook {hook} priority {priority}; {match} counter name observer; }}
            }}""",
        )

    def _has_count(self, name: str) -> bool:
        listed = self.box.command(
            "nft", "-j", "list", "counter", "inet", "observer", name, capture_output=True
        )
        (counter,) = (item["counter"] for item in json.loads(listed.stdout)["nftables"] if "counter" in item)
        return int(counter["packets"]) > 0

    def _send(self, packet: Counterexample) -> None:
        data = packet.packet.data
        if packet.state == "invalid" and packet.path != "out":
            # a changed last byte (TCP's urgent pointer, or data), so that the checksum is wrong
            data = data[:-1] + bytes((data[-1] ^ 0xFF,))
        version = packet.source.version
        if packet.path == "out":
            family = socket.AF_INET if version == 4 else socket.AF_INET6
            with (
                closing(self.box.socket(family, socket.SOCK_RAW, socket.IPPROTO_RAW)) as sender,
                suppress(PermissionError),  # the error of a packet that the firewall refuses
            ):
                sender.sendto(data, (str(packet.destination), 0))
            return
        kind = b"\x08\x00" if version == 4 else b"\x86\xdd"
        with closing(self.wire.socket(socket.AF_PACKET, socket.SOCK_RAW)) as sender:
            sender.bind((packet.iif, 0))
            sender.send(bytes.fromhex((BOX + WIRE).replace(":", "")) + kind + data)


@contextmanager
def bench(policy: Policy, commands: list[Any]) -> Iterator[Bench]:
    """Yield a box with this ruleset."""
    tunnel = [policy.tunnel.interface] if policy.tunnel else []
    used = [*policy.outside, *(port.interface for port in policy.ports), *tunnel]
    interfaces = [*used, *UNUSED]
    with namespaces(2) as (box, wire):
        cables = [
            f"link add {name} address {BOX} type veth peer name {name} address {WIRE} netns {wire.path}"
            for name in interfaces
        ]
        ups = [f"link set {name} up" for name in interfaces]
        box.ip(*cables, *ups)
        wire.ip(*ups)
        for setting in ("ip_forward", "conf/all/accept_local", "conf/all/route_localnet"):
            box.write(f"ipv4/{setting}", 1)
        for name in ("all", *interfaces):
            box.write(f"ipv4/conf/{name}/rp_filter", 0)
        box.write("ipv6/conf/all/forwarding", 1)
        with closing(box.run(Nft)) as nft:
            nft.run(commands)
            box.write("netfilter/nf_conntrack_tcp_be_liberal", 1)
            yield Bench(box, wire, nft)


Ends = tuple[Any, Any, int, int]


def _track(protocol: int, original: Ends, reply: Ends) -> None:
    """Add a conntrack entry for an established connection (linux/netfilter/nfnetlink_conntrack.h)."""
    version = original[0].version
    # established, liberal
    state = attribute(1, b"\3") + attribute(4, b"\x0a\x0a") + attribute(5, b"\x0a\x0a")
    body = (
        attribute(1 | NESTED, _tuple(protocol, original))
        + attribute(2 | NESTED, _tuple(protocol, reply))
        + attribute(3, (CONFIRMED | SEEN_REPLY | ASSURED).to_bytes(4, "big"))
        + (attribute(4 | NESTED, attribute(1 | NESTED, state)) if protocol == TCP else b"")
        + attribute(7, (600).to_bytes(4, "big"))
    )
    family = socket.AF_INET if version == 4 else socket.AF_INET6
    with netfilter_socket() as sock:
        sock.send(request(NEW_ENTRY, CREATE | 4, family, body))
        error = int.from_bytes(sock.recv(4096)[16:20], "little", signed=True)
        assert error == 0, f"the kernel refuses the conntrack entry: error {error}"


def _tuple(protocol: int, ends: Ends) -> bytes:
    source, destination, sport, dport = ends
    first = 1 if isinstance(source, ipaddress.IPv4Address) else 3
    addresses = attribute(first, source.packed) + attribute(first + 1, destination.packed)
    ports = attribute(2, sport.to_bytes(2, "big")) + attribute(3, dport.to_bytes(2, "big"))
    return attribute(1 | NESTED, addresses) + attribute(2 | NESTED, attribute(1, bytes((protocol,))) + ports)
