"""The network of a lab in the virtual world: hosts, links and names.

instrument ── LAN ──┐
instrument ── LAN ──┤ box ── uplink ── [proxy ── backbone ──] data center
instrument ── LAN ──┘
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Final

from sim.engine.clock import Environment
from sim.engine.trace import Trace
from sim.lab.labfile import Lab
from sim.net.host import Network, SimHost
from sim.net.link import Link, LinkQuality
from sim.worlds.shared.site.addresses import instrument_address
from sim.worlds.shared.site.links import BACKBONE, LAN

ESP_BYTES: Final = 64
"""Maximum overhead of ESP per packet: IPv4, UDP (RFC 3948), SPI, number, IV, padding, trailer and ICV (RFC 4106)."""


class VirtualSite:
    """The simulated network of a lab; the data center, the proxy and the box add their own hosts to `network`."""

    def __init__(
        self, env: Environment, wall_ns: Callable[[], int], random: Callable[[str], Random], trace: Trace
    ) -> None:
        """`wall_ns` is the wall clock in nanoseconds since 1970; `random` returns the random stream of a name."""
        self._env, self._random, self._trace = env, random, trace
        self.network = Network(wall_ns)
        self.names = self.network.names
        self.links: dict[str, Link] = {}

    def connect(self, lab: Lab, box: SimHost, proxy: SimHost | None, datacenter: SimHost) -> SimHost:
        """Connect the box to the data center, through the proxy if there is one; returns the uplink's far end."""
        far = proxy or datacenter
        far.gateway, box.gateway = box, far
        spec = lab.uplink
        quality = LinkQuality(
            spec.rate,
            spec.delay,
            spec.jitter,
            spec.loss,
            queue_bytes_max=spec.queue,
            overhead_bytes=ESP_BYTES if spec.vpn else 0,
        )
        self._join("uplink", box, far, quality)
        if proxy is not None:
            self._join("backbone", proxy, datacenter, BACKBONE)
        return far

    def add_instrument(self, port: int, box: SimHost) -> SimHost:
        """Add the host of the instrument at that port, connected to the box."""
        host = SimHost(self.network, f"instrument{port}", instrument_address(port))
        host.gateway = box
        self._join(f"instrument:{port}", host, box, LAN)
        return host

    def add_siem(self, siem: SimHost, datacenter: SimHost) -> None:
        """Connect the SIEM to the data center."""
        siem.gateway = datacenter
        self._join("siem", siem, datacenter, LAN)

    def _join(self, name: str, near: SimHost, far: SimHost, quality: LinkQuality) -> None:
        link = Link(self._env, name, quality, self._random(f"link {name}"))
        self.network.connect(near, far, link)
        self.links[name] = link
        link.on_change.append(lambda up: self._trace.add(f"link {name} {'up' if up else 'down'}"))
