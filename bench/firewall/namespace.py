"""A network namespace in which the kernel filters packets: the box's interfaces, its ruleset, and counting observers.

The box's interfaces are veths whose peers are in the same namespace, without addresses: what a raw socket sends on a
peer arrives at the box's interface. A second table, `watch`, counts packets between the hooks. Chains of the last
priority, created before those of connection tracking, drop each packet that passed after connection tracking has
confirmed it, so that no packet is answered and none leaves. Packets that the kernel itself would send (errors,
neighbour discovery, resets) are dropped before they reach the ruleset, because they do not carry MARK.

`BoxNamespace.destination` is a model of the kernel's work outside netfilter: forwarding is on; rp_filter, redirects
and source routes are off; each zone has a route, and the default route is at the uplink.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Interface, ip_interface
from pathlib import Path
from typing import Any, Final

from pyroute2 import IPRoute

from netfw.kernel.netlink import F_ACK, F_DUMP, attributes, dump, netfilter_socket, request
from netfw.kernel.nft import Nft
from netfw.model.ip_options import ipv4_options_are_valid
from netfw.model.packet import Packet
from netfw.policy.policy import Network, Policy

MARK: Final = 0x5A9
UPLINK: Final = ("198.51.100.2/24", "2001:db8:ff::2/64")
ROUTERS: Final = ("198.51.100.1", "2001:db8:ff::1")
LINK_LOCAL: Final = "fe80::b"
BOX_MAC: Final = bytes.fromhex("02000000000b")
PEER_MAC: Final = bytes.fromhex("020000000001")
LAST: Final = (1 << 31) - 1

OBSERVERS: Final = ("arrived", "let_in", "at_input", "at_forward", "received", "forwarded", "sent", "offered")

FRAGMENT_SECONDS: Final = 2
"""How long the kernel keeps incomplete fragments: longer than a batch takes, and short enough to wait for."""

_CLONE_NEWNET: Final = 0x40000000
_FLUSH_CONNTRACK: Final = 1 << 8 | 2  # NFNL_SUBSYS_CTNETLINK, IPCTNL_MSG_CT_DELETE
# NFNL_SUBSYS_NFTABLES, NFT_MSG_GETOBJ: its name is attribute 2, its data 4
_GET_OBJECTS: Final = 10 << 8 | 19
_ALL_NODES: Final = int(IPv6Address("ff02::1"))


def enter_namespace() -> None:
    """Move this process into a new network namespace, which the kernel removes when the process ends."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "unshare(CLONE_NEWNET): needs root")


def _watch() -> list[Any]:
    table = {"family": "inet", "table": "watch"}
    marked = {"left": {"meta": {"key": "mark"}}, "right": MARK}
    chains: list[tuple[str, int, list[list[Any]]]] = [
        ("prerouting", -500, [[{"counter": "arrived"}]]),
        ("prerouting", -250, [[{"counter": "let_in"}]]),
        ("input", -10, [[{"counter": "at_input"}]]),
        ("forward", -10, [[{"counter": "at_forward"}]]),
        ("output", -500, [[{"match": {"op": "!=", **marked}}, {"drop": None}], [{"counter": "offered"}]]),
        ("input", LAST, [[{"counter": "received"}, {"drop": None}]]),
        (
            "postrouting",
            LAST,
            [
                [{"match": {"op": "==", **marked}}, {"counter": "sent"}, {"drop": None}],
                [{"counter": "forwarded"}, {"drop": None}],
            ],
        ),
    ]
    commands: list[Any] = [{"add": {"table": {"family": "inet", "name": "watch"}}}]
    commands += [{"add": {"counter": {**table, "name": name}}} for name in OBSERVERS]
    for number, (hook, priority, rules) in enumerate(chains):
        name = f"{hook}{number}"
        chain = {"name": name, "type": "filter", "hook": hook, "prio": priority, "policy": "accept"}
        commands.append({"add": {"chain": {**table, **chain}}})
        commands += [{"add": {"rule": {**table, "chain": name, "expr": rule}}} for rule in rules]
    return commands


def _routes_beside_addresses(policy: Policy) -> list[tuple[Network, str]]:
    """Return the routes into the tunnel of sessions, and into the VPN if there is one."""
    routes = [(network, policy.tunnel.interface) for network in policy.tunnel.staff] if policy.tunnel else []
    if policy.vpn:
        inside = [entry for entry in policy.authorized if entry.role != "gateway"]
        routes += [(network, policy.vpn) for entry in inside for network in entry.networks]
    return routes


class BoxNamespace:
    """The namespace of this process, set up as a box with this policy; `idle` interfaces belong to no zone."""

    def __init__(
        self, policy: Policy, ruleset: list[Any], *, idle: tuple[str, ...] = (), tcp_loose: bool = True
    ) -> None:
        self.addresses: dict[str, list[IPv4Interface | IPv6Interface]] = {
            policy.uplink: [ip_interface(text) for text in UPLINK],
            **{port.interface: list(port.addresses) for port in policy.ports},
            **{name: [] for name in ([policy.vpn] if policy.vpn else [])},
            **{name: [] for name in ([policy.tunnel.interface] if policy.tunnel else [])},
            **{name: [] for name in idle},
        }
        self.uplink = policy.uplink
        self._routes = [
            (address.network, name) for name, addresses in self.addresses.items() for address in addresses
        ]
        self._routes += _routes_beside_addresses(policy)
        self._prepare_lookups()
        self._nft = Nft()
        self._sockets: dict[str, socket.socket] = {}
        self._index: dict[str, int] = {}
        self._make_interfaces()
        self._sysctls(tcp_loose)
        self._make_routes(policy)
        self._nft.run(_watch())
        self._nft.run(ruleset)
        self._raw4 = self._raw(socket.AF_INET)
        self._raw6 = self._raw(socket.AF_INET6)
        self._netfilter = netfilter_socket()

    def _prepare_lookups(self) -> None:
        """Prepare the addresses and routes that `destination` looks up, as numbers."""
        addresses = [(name, address) for name, addresses in self.addresses.items() for address in addresses]
        self._local = {(address.version, int(address.ip)) for _, address in addresses}
        self._addresses4 = {number for version, number in self._local if version == 4}
        self._broadcast = {
            int(address.network.broadcast_address) for _, address in addresses if address.version == 4
        }
        anycast = {int(address.network.network_address) for _, address in addresses if address.version == 6}
        self._local |= {(6, number) for number in anycast}
        solicited = int(IPv6Address("ff02::1:ff00:0"))
        self._groups = {
            name: {_ALL_NODES, *(int(IPv6Address(text)) for text in ("ff02::2", "ff05::2"))}
            | {
                solicited | int(address.ip) & 0xFFFFFF
                for address in self.addresses[name]
                if address.version == 6
            }
            | {
                solicited | int(address.network.network_address) & 0xFFFFFF
                for address in self.addresses[name]
                if address.version == 6
            }
            | {solicited | 0xB, solicited}
            for name in self.addresses
        }
        self._table = sorted(
            ((network.version, int(network[0]), int(network[-1]), name) for network, name in self._routes),
            key=lambda route: route[1] - route[2],
            reverse=True,
        )

    # Settings of the kernel outside netfilter

    def enters(self, packet: Packet) -> bool:
        """Return whether the IPv6 layer passes the packet to netfilter (net/ipv6/ip6_input.c, ip6_rcv_core)."""
        if packet.family == 4:
            return True
        source, destination = packet.saddr, packet.daddr
        if 1 in (source, destination) or source >> 120 == 0xFF:
            return False
        return destination >> 120 != 0xFF or destination >> 112 & 15 > 1

    def destination(self, packet: Packet) -> str:
        """Return where a packet goes: "input", "lost" (dropped between the hooks), or the outgoing interface."""
        if packet.family == 4:
            return self._destination_ipv4(packet)
        return self._destination_ipv6(packet)

    def _destination_ipv4(self, packet: Packet) -> str:
        source, destination = packet.saddr, packet.daddr
        if not ipv4_options_are_valid(packet.data):
            return "lost"
        if source >> 28 == 14 or source in (0, 0xFFFFFFFF) or source >> 24 == 127:
            broadcast = source == 0 and destination in (0xFFFFFFFF, 0)
            return "input" if broadcast else "lost"
        if source in self._addresses4:
            return "lost"
        if destination >> 28 == 14:
            return "input" if destination == int(IPv4Address("224.0.0.1")) else "lost"
        if destination == 0xFFFFFFFF or destination in self._broadcast or (4, destination) in self._local:
            return "input"
        if destination == 0 or destination >> 24 == 127 or packet.data[8] <= 1:
            return "lost"
        return self.route(packet)

    def _destination_ipv6(self, packet: Packet) -> str:
        source, destination = packet.saddr, packet.daddr
        if destination >> 120 == 0xFF:
            return "input" if destination in self._groups[packet.iif] else "lost"
        link = destination >> 118 == 0x3FA
        if (6, destination) in self._local or (link and destination & (1 << 118) - 1 in (0, 0xB)):
            return "input"
        if packet.data[7] <= 1:
            return "lost"
        oif = packet.iif if destination >> 64 == 0xFE80 << 48 else self.route(packet)
        if link and oif != packet.iif:  # a link-local address is valid only on its own link
            return "lost"
        return "lost" if oif != packet.iif and (source == 0 or source >> 118 == 0x3FA) else oif

    def route(self, packet: Packet) -> str:
        """Return the interface of the longest matching route; the default route is the uplink's."""
        for version, first, last, name in self._table:
            if version == packet.family and first <= packet.daddr <= last:
                return name
        return self.uplink

    def leaves(self, packet: Packet) -> str:
        """Return the interface on which a packet sent by the box leaves."""
        return "lo" if (packet.family, packet.daddr) in self._local else self.route(packet)

    # Setup

    def _make_interfaces(self) -> None:
        with IPRoute() as ip:
            ip.link("set", index=ip.link_lookup(ifname="lo")[0], state="up")
            for number, name in enumerate(self.addresses):
                ip.link(
                    "add", ifname=name, kind="veth", address=BOX_MAC.hex(":"), peer={"ifname": f"x{number}"}
                )
                self._index[name], peer = (ip.link_lookup(ifname=n)[0] for n in (name, f"x{number}"))
                Path(f"/proc/sys/net/ipv6/conf/x{number}/disable_ipv6").write_text("1")
                for key, value in (
                    ("accept_dad", 0),
                    ("addr_gen_mode", 1),
                    ("accept_ra", 0),
                    ("router_solicitations", 0),
                ):
                    Path(f"/proc/sys/net/ipv6/conf/{name}/{key}").write_text(str(value))
                ip.link("set", index=peer, state="up")
                ip.link("set", index=self._index[name], state="up")
                generator = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
                generator.bind((f"x{number}", 0))
                self._sockets[name] = generator

    def _sysctls(self, tcp_loose: bool) -> None:
        values: dict[str, int] = {
            "ipv4/ip_forward": 1,
            "ipv6/conf/all/forwarding": 1,
            "ipv4/ipfrag_high_thresh": 1 << 28,
            "ipv4/ipfrag_time": FRAGMENT_SECONDS,
            "netfilter/nf_conntrack_frag6_timeout": FRAGMENT_SECONDS,
            "netfilter/nf_conntrack_frag6_high_thresh": 1 << 28,
            "netfilter/nf_conntrack_tcp_loose": int(tcp_loose),
        }
        for name in ("all", "default", *self.addresses):
            for key in ("rp_filter", "send_redirects", "accept_source_route", "log_martians"):
                values[f"ipv4/conf/{name}/{key}"] = 0
        for key, value in values.items():
            Path("/proc/sys/net", key).write_text(str(value))

    def _make_routes(self, policy: Policy) -> None:
        with IPRoute() as ip:
            for name, addresses in self.addresses.items():
                for address in (*addresses, IPv6Interface(f"{LINK_LOCAL}/64")):
                    broadcast = (
                        {"broadcast": str(address.network.broadcast_address)} if address.version == 4 else {}
                    )
                    ip.addr(
                        "add",
                        index=self._index[name],
                        address=str(address.ip),
                        prefixlen=address.network.prefixlen,
                        **broadcast,
                    )
            for router, everywhere in zip(ROUTERS, ("0.0.0.0/0", "::/0"), strict=True):
                ip.route("add", dst=everywhere, gateway=router, oif=self._index[self.uplink])
            for network, name in _routes_beside_addresses(policy):
                ip.route("add", dst=str(network), oif=self._index[name])

    @staticmethod
    def _raw(family: int) -> socket.socket:
        raw = socket.socket(family, socket.SOCK_RAW, socket.IPPROTO_RAW)
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, MARK)
        return raw

    # Use

    def inject(self, iif: str, data: bytes) -> None:
        """Inject a packet into an interface of the box."""
        kind = b"\x86\xdd" if data[0] >> 4 == 6 else b"\x08\x00"
        self._sockets[iif].send(BOX_MAC + PEER_MAC + kind + data)

    def send(self, packet: Packet) -> None:
        """Send a packet from the box. A refusal by the ruleset, which the kernel reports as an error, is ignored."""
        with contextlib.suppress(PermissionError, ConnectionRefusedError, OSError):
            if packet.family == 4:
                self._raw4.sendto(packet.data, (str(IPv4Address(packet.daddr)), 0))
            else:
                self._raw6.sendto(packet.data, (str(IPv6Address(packet.daddr)), 0, 0, 0))

    def run(self, commands: list[Any]) -> None:
        """Run a transaction of libnftables."""
        self._nft.run(commands)

    def listing(self) -> list[Any]:
        """Return the ruleset, as the kernel lists it."""
        return self._nft.table() or []

    def counters(self) -> dict[str, int]:
        """Return the values of all named counters."""
        counted = {}
        for message in dump(self._netfilter, request(_GET_OBJECTS, F_DUMP, 1)):
            object_attributes = message.attributes()
            counted[object_attributes[2].rstrip(b"\0").decode()] = int.from_bytes(
                attributes(object_attributes[4])[2], "big"
            )
        return counted

    def flush_connections(self) -> None:
        """Delete all tracked connections."""
        self._netfilter.send(request(_FLUSH_CONNTRACK, F_ACK, 0))
        self._netfilter.recv(1 << 16)


def processors() -> int:
    """Return the number of namespaces that can be used in parallel."""
    return len(os.sched_getaffinity(0))
