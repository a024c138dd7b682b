# SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
"""Inspects what limits the scope of the proof outside the table: foreign chains, interfaces, legacy tables.

The theorems are about the table alone. They hold for the box as long as nothing else changes, duplicates, redirects
or forwards packets, which `Inspector.inspect` checks. ASSUMPTIONS lists what is neither proved nor checked.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from netfw.kernel import netlink, snapshot
from netfw.policy.policy import Policy
from netfw.ruleset.names import CONNECTIONS_MAX
from netfw.watch.foreign import NotCovered, foreign_effects
from netfw.watch.links import Interface, interfaces, link_effects, route_socket, routing_rules

ASSUMPTIONS: Final = (
    "the kernel runs the listed rules as documented, and gives each packet one connection tracking state",
    "the kernel settings of netfw.kernel.sysctl hold (the box restores them; `rap fw apply` does not set them)",
    "no eBPF program at tcx, netfilter or cgroup hooks changes packets, and no kernel module outside nf_tables does",
    "routes and IPsec policies are as the administrator intends; the theorems refer to interfaces only",
    "each network cable connects the devices that the policy describes",
)
"""The assumptions of the proof."""

LEGACY_TABLES: Final = {
    "ip": ("/proc/thread-self/net/ip_tables_names", socket.AF_INET, socket.IPPROTO_IP, 64),
    "ip6": ("/proc/thread-self/net/ip6_tables_names", socket.AF_INET6, socket.IPPROTO_IPV6, 64),
}
"""Legacy iptables: where the kernel lists tables, and the socket option to query one (IPT_SO_GET_INFO)."""
_CONNTRACK: Final = Path("/proc/sys/net/netfilter")
ENTRIES_OF_THE_BOX: Final = 1024
"""Tracked connections that the box itself may need."""
IPT_GETINFO: Final = struct.Struct("=32sI5I5III")


def tracked_connections() -> tuple[int, int]:
    """Return the tracked connections in this network namespace, and their limit. Raises: OSError."""
    count, limit = (
        int((_CONNTRACK / name).read_text()) for name in ("nf_conntrack_count", "nf_conntrack_max")
    )
    return count, limit


def not_covered(policy: Policy) -> list[NotCovered]:
    """Return the conditions that are not covered in this network namespace now. Raises: OSError."""
    inspector = Inspector(policy)
    try:
        return inspector.inspect()
    finally:
        inspector.close()


@dataclass(slots=True)
class Inspector:
    """Inspects the surroundings of a policy's table, in the network namespace of its creation."""

    policy: Policy
    _netfilter: socket.socket = field(default_factory=netlink.netfilter_socket)
    _route: socket.socket = field(default_factory=route_socket)
    _generation: int = -1
    _foreign: list[NotCovered] = field(default_factory=list)
    _zones: dict[str, int] = field(default_factory=dict)
    """Indices of the zones' interfaces when they were first seen."""

    def close(self) -> None:
        """Close the sockets."""
        self._netfilter.close()
        self._route.close()

    def inspect(self) -> list[NotCovered]:
        """Return the conditions that are not covered now. Raises: OSError."""
        links = interfaces(self._route)
        zones = self._interfaces()
        return [
            *self._foreign_tables(),
            *legacy_tables(),
            *link_effects(self._route, links, zones),
            *self._renamed(links, zones),
            *routing_rules(self._route),
            *self._too_few_entries(),
        ]

    def _too_few_entries(self) -> Iterator[NotCovered]:
        """Check the kernel's global limit of tracked connections: all ports at their own limits must fit into it."""
        needed = len(self.policy.ports) * CONNECTIONS_MAX + ENTRIES_OF_THE_BOX
        if (limit := tracked_connections()[1]) < needed:
            text = f"the kernel tracks at most {limit} connections (nf_conntrack_max); the ports may need {needed}"
            yield NotCovered(text, False)

    def _foreign_tables(self) -> list[NotCovered]:
        """Return effects of foreign tables; reread only after a change of the ruleset by any program."""
        now = snapshot.generation(self._netfilter)
        if now != self._generation:
            self._foreign = foreign_effects(self._netfilter)
            self._generation = now
        return self._foreign

    def _renamed(self, links: dict[int, Interface], zones: tuple[str, ...]) -> Iterator[NotCovered]:
        indices = {link.name: index for index, link in links.items()}
        for name in zones:
            index = self._zones.setdefault(name, indices[name]) if name in indices else self._zones.get(name)
            if index in links and links[index].name != name:
                yield NotCovered(f"interface {name} was renamed to {links[index].name}", True)
            elif index not in links and name in indices:
                # a new device with the same name, as after a reset of the adapter
                self._zones[name] = indices[name]

    def _interfaces(self) -> tuple[str, ...]:
        tunnel = (self.policy.tunnel.interface,) if self.policy.tunnel else ()
        return *self.policy.outside, *(port.interface for port in self.policy.ports), *tunnel


def legacy_tables() -> Iterator[NotCovered]:
    """Yield tables of legacy iptables that have rules. The rules are not read: any of them may redirect packets."""
    for family, (path, domain, level, option) in LEGACY_TABLES.items():
        try:
            names = Path(path).read_text("utf-8").split()
        except OSError:
            continue
        for name in names:
            if _has_rules(name, domain, level, option):
                yield NotCovered(
                    f"legacy iptables has rules in table {family} {name}, which are not inspected", True
                )


def _has_rules(table: str, domain: int, level: int, option: int) -> bool:
    """Return whether a table has rules; one without has one entry per hook, and one at the end."""
    query = table.encode().ljust(IPT_GETINFO.size, b"\0")
    try:
        with socket.socket(domain, socket.SOCK_DGRAM) as sock:
            answer = getsockopt_with_input(sock, level, option, query)
    except OSError:
        return True  # it exists, but cannot be inspected
    _, hooks, *_, entries, _ = IPT_GETINFO.unpack(answer)
    return bool(entries > hooks.bit_count() + 1)


def getsockopt_with_input(sock: socket.socket, level: int, option: int, query: bytes) -> bytes:
    """Call getsockopt(2) with an input buffer, which Python's own function does not support."""
    import ctypes  # used only here

    buffer, length = ctypes.create_string_buffer(query, len(query)), ctypes.c_uint32(len(query))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.getsockopt(sock.fileno(), level, option, buffer, ctypes.byref(length)):
        raise OSError(ctypes.get_errno(), "getsockopt")
    return buffer.raw
