"""The guest in the lab's network: a host whose interfaces are TAP devices, connected to QEMU's network cards.

The host is a network namespace like any other, but the guest assigns its own addresses. QEMU's card receives the
frames that the relay sends to an interface, and vice versa.
"""

from __future__ import annotations

import fcntl
import os
import socket
import struct
from collections.abc import Callable
from typing import Final

from sim.worlds.kernel.namespaces.cable import NearEnd, packet_socket
from sim.worlds.kernel.namespaces.host import NamespaceHost
from sim.worlds.kernel.namespaces.netlink import Netlink

_TUNSETIFF: Final = 0x400454CA
_TUNSETPERSIST: Final = 0x400454CB
_IFF_TAP, _IFF_NO_PI = 0x0002, 0x1000


class GuestHost(NamespaceHost):
    """The host in which QEMU runs."""

    def __init__(self, name: str) -> None:
        self.on_carrier: Callable[[str, bool], object] = lambda _interface, _up: None
        """Called when a cable is plugged in or unplugged."""
        super().__init__(name)

    def attach(self, interface: str) -> None:
        """Create a TAP device, which exists as long as the namespace."""
        request = struct.pack("16sH22x", interface.encode(), _IFF_TAP | _IFF_NO_PI)
        with self.inside():
            device = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC)
        try:
            fcntl.ioctl(device, _TUNSETIFF, request)
            fcntl.ioctl(device, _TUNSETPERSIST, 1)
        finally:
            os.close(device)

    def address(self, interface: str, address: str) -> None:
        """Record the address that the guest assigns to itself."""
        self.addresses[interface] = address

    def route(self, destination: str, via: str) -> None:
        """Do nothing: the guest sets its own routes."""


class GuestEnd(NearEnd):
    """The end of a link at a guest, which is the TAP device."""

    host: GuestHost

    def _plug(self, _netlink: Netlink, _network: int, _name: str) -> tuple[Netlink, int, socket.socket]:
        self.host.attach(self.interface)
        with self.host.inside():
            frames = packet_socket(self.interface)
        return self.host.netlink, self.host.netlink.index(self.interface), frames

    def set_up(self, *, up: bool) -> None:
        """Forward frames or discard them, and switch the carrier of the guest's card."""
        super().set_up(up=up)
        self.host.on_carrier(self.interface, up)
