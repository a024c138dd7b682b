"""A line between two network namespaces with the rate and the delay of the virtual world's links, in real time."""

from __future__ import annotations

from random import Random
from typing import Any, Final, cast

from sim.net.link import LinkQuality
from sim.worlds.kernel.namespaces.cable import packet_socket
from sim.worlds.kernel.namespaces.host import send_plain_packets
from sim.worlds.kernel.namespaces.link import KernelLink
from sim.worlds.kernel.namespaces.relay import Relay
from tests.support.namespaces import Namespace

SLOW: Final = LinkQuality(rate_bits=128_000, delay_ns=40_000_000)
"""The smallest line that is supported: 128 kbit/s, 40 ms one way."""


class _End:
    """The end of a veth pair that is in the namespace of the relay."""

    def __init__(self, middle: Namespace, name: str, host: Namespace, interface: str) -> None:
        host.ip(
            f"link add {interface} type veth peer name {name} netns {middle.path}", f"link set {interface} up"
        )
        middle.write(f"ipv6/conf/{name}/disable_ipv6", 1)
        middle.ip(f"link set {name} up")
        host.run(lambda: send_plain_packets(interface))
        self.interface = interface
        self.socket = middle.run(lambda: packet_socket(name))
        self._middle, self._name = middle, name

    def set_up(self, *, up: bool) -> None:
        """Set the carrier of the host's interface."""
        self._middle.ip(f"link set {self._name} {'up' if up else 'down'}")


class ShapedLine:
    """Connects two namespaces, as `tests.support.namespaces.cable` does."""

    def __init__(self, middle: Namespace, quality: LinkQuality = SLOW) -> None:
        """`middle` is the namespace of the relay."""
        self._middle, self._quality = middle, quality
        self.link: KernelLink

    def plug(self, near: Namespace, name: str, far: Namespace, far_name: str) -> None:
        """Connect the interface `name` with `far_name` in the other namespace."""
        ends = (
            _End(self._middle, "line-a", near, name),
            _End(self._middle, "line-b", far, far_name),
        )
        self.link = KernelLink("line", cast(Any, ends), self._quality, Random(1), Relay())

    def lose_everything(self) -> None:
        """Drop every packet from now on, and keep the carrier."""
        self.link.forward.quality = self.link.backward.quality = LinkQuality(
            rate_bits=self._quality.rate_bits, loss=1.0
        )
