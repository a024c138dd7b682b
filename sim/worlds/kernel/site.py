"""The network of a lab in the kernel world: hosts, links, addresses and routes.

    instrument ── LAN ──┐
    instrument ── LAN ──┤ box ── uplink ── router ── backbone ── data center
    instrument ── LAN ──┘                    │
                                           proxy

The lab file describes the uplink; the other links are never the bottleneck. The box's interfaces have the names
defined by its board, and addresses as set by an installation. The instrument ports are opened by the box program.
"""

from __future__ import annotations

from typing import Final

from sim.lab.labfile import Lab
from sim.net.link import LinkQuality
from sim.worlds.kernel.namespaces.host import NamespaceHost
from sim.worlds.kernel.namespaces.link import KernelLink
from sim.worlds.kernel.namespaces.names import SiteNames
from sim.worlds.kernel.supervision.lab import KernelLab
from sim.worlds.shared.site.addresses import (
    BOX,
    BOX_MOVED,
    DATACENTER,
    DATACENTER_MOVED,
    DATACENTER_NAME,
    DATACENTER_TUNNEL,
    INSTRUMENTS,
    PREFIX_BITS,
    PROXY,
    PROXY_NAME,
    box_address,
    instrument_address,
)
from sim.worlds.shared.site.links import BACKBONE, LAN

INTERFACE: Final = "eth0"
"""The only interface of every host except the box and the router."""


class KernelSite:
    """Hosts and links of a lab, with addresses and routes."""

    def __init__(self, namespaces: KernelLab, lab: Lab) -> None:
        self._namespaces, self._board = namespaces, lab.board
        spec = lab.uplink
        self.names = SiteNames(namespaces.folder, {DATACENTER_NAME: DATACENTER, PROXY_NAME: PROXY})
        self.box, self.router = self._box_host(), self._host("router")
        self.datacenter = self._host("datacenter")
        for host in (self.box, self.datacenter):  # installed by the vendor; other hosts have Linux's default
            host.sysctl("net.ipv4.tcp_mtu_probing", 1)
        quality = LinkQuality(spec.rate, spec.delay, spec.jitter, spec.loss, queue_bytes_max=spec.queue)
        self.uplink = self._join("uplink", (self.box, lab.board.uplink), "to-box", quality, BOX)
        self.backbone = self._join("backbone", (self.datacenter, INTERFACE), "to-far", BACKBONE, DATACENTER)
        if lab.sessions:
            index = self.datacenter.netlink.index(INTERFACE)
            self.datacenter.netlink.add_address(index, DATACENTER_TUNNEL, PREFIX_BITS)
        self.proxy: NamespaceHost | None = None
        if spec.proxy is not None:
            self.proxy = self._host("proxy")
            self._join("proxy", (self.proxy, INTERFACE), "to-proxy", LAN, PROXY)
        self.router.sysctl("net.ipv4.ip_forward", 1)
        # so that intruders can try to reach the instruments through the box
        self.router.route(INSTRUMENTS, BOX)
        self.instruments = {spec.port: self._instrument(lab, spec.port) for spec in lab.instruments}
        self.close_ports()

    def _box_host(self) -> NamespaceHost:
        return self._host("box")

    def _host(self, name: str) -> NamespaceHost:
        return self._without_ipv6(self._namespaces.host(name))

    @staticmethod
    def _without_ipv6(host: NamespaceHost) -> NamespaceHost:
        host.sysctl("net.ipv6.conf.all.disable_ipv6", 1)  # IPv6's own messages would use the uplink
        return host

    def _join(
        self, name: str, end: tuple[NamespaceHost, str], router: str, quality: LinkQuality, address: str
    ) -> KernelLink:
        """Connect a host to an interface of the router, which is its default gateway."""
        host, interface = end
        link = self._namespaces.link(name, end, (self.router, router), quality)
        gateway = address.rpartition(".")[0] + ".1"
        host.address(interface, f"{address}/{PREFIX_BITS}")
        self.router.address(router, f"{gateway}/{PREFIX_BITS}")
        host.route("default", gateway)
        return link

    def _instrument(self, lab: Lab, port: int) -> NamespaceHost:
        host = self._host(f"instrument{port}")
        interface = lab.board.instrument_ports[port]
        self._namespaces.link(f"instrument:{port}", (host, INTERFACE), (self.box, interface), LAN)
        host.address(INTERFACE, f"{instrument_address(port)}/{PREFIX_BITS}")
        self.box.address(interface, f"{box_address(port)}/{PREFIX_BITS}")
        host.route("default", box_address(port))
        return host

    def change_address(self, target: str) -> None:
        """Switch the box's uplink, or the data center, to the other of its two addresses."""
        if target == "uplink":
            new = self._swap(self.box, self._board.uplink, BOX, BOX_MOVED)
            self.router.netlink.replace_route(dst=INSTRUMENTS, gateway=new)
        else:
            new = self._swap(self.datacenter, INTERFACE, DATACENTER, DATACENTER_MOVED)
            self.names.move(DATACENTER_NAME, new)

    def _swap(self, host: NamespaceHost, interface: str, one: str, other: str) -> str:
        """Switch an interface to the other of two addresses; returns the new address."""
        new = other if host.addresses[interface].startswith(f"{one}/") else one
        host.change_address(interface, f"{new}/{PREFIX_BITS}", f"{new.rpartition('.')[0]}.1")
        return new

    def close_ports(self) -> None:
        """Set the box's instrument ports down, as after a boot; they keep their addresses."""
        for port in self.instruments:
            interface = self.box.netlink.index(self._board.instrument_ports[port])
            self.box.netlink.set_interface(interface, state="down")
