"""The two veth pairs of a link, whose near ends are in the lab's own network namespace.

    host one ──veth── NAME-a   relay   NAME-b ──veth── host other

A host has the far end of a veth pair, and cannot see what the link does to its frames. When the near ends are set
down, the hosts' interfaces lose their carrier and keep their addresses and routes, as with a real cable. With a
single veth pair between the hosts, the end that is set down would lose its routes, which do not return with the
carrier.
"""

from __future__ import annotations

import socket
import struct
from typing import Final

from sim.worlds.kernel.namespaces.host import NamespaceHost
from sim.worlds.kernel.namespaces.netlink import Netlink

INTERFACE_NAME_MAX: Final = 15
"""The longest interface name in characters (IFNAMSIZ is 16 with the terminating zero)."""
# <linux/if_packet.h>, <linux/if_ether.h>, <asm/socket.h>
_SOL_PACKET: Final = 263
_PACKET_STATISTICS: Final = 6
_PACKET_IGNORE_OUTGOING: Final = 23
_ETH_P_ALL: Final = 3
_SO_RCVBUFFORCE: Final = 33
_RECEIVE_BUFFER_BYTES: Final = 8 * 1024 * 1024


class NearEnd:
    """The near end of a veth pair to a host's interface, with a packet socket (packet(7)).

    The constructor creates the pair. Raises: ValueError for an invalid interface name.
    """

    def __init__(
        self, netlink: Netlink, network: int, name: str, host: NamespaceHost, interface: str
    ) -> None:
        for interface_name in (name, interface):
            if not 0 < len(interface_name) <= INTERFACE_NAME_MAX:
                raise ValueError(
                    f"{interface_name!r} cannot name an interface: use 1 to {INTERFACE_NAME_MAX} characters"
                )
        self.host, self.interface = host, interface
        self._overrun = 0
        self._netlink, self._index, self.socket = self._plug(netlink, network, name)
        host.netlink.set_interface(host.netlink.index(interface), state="up")
        self.set_up(up=True)

    def _plug(self, netlink: Netlink, network: int, name: str) -> tuple[Netlink, int, socket.socket]:
        """Create the host's interface; return its near end, as netlink and index, and the packet socket."""
        self.host.netlink.add_interface("veth", self.interface, peer={"ifname": name, "net_ns_fd": network})
        self.host.plain_packets(self.interface)
        return netlink, netlink.index(name), packet_socket(name)

    def set_up(self, *, up: bool) -> None:
        """Set the carrier of the host's interface."""
        self._netlink.set_interface(self._index, state="up" if up else "down")

    @property
    def overrun(self) -> int:
        """The number of frames from the host that were lost because the socket's buffer was full."""
        counts = self.socket.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, 8)
        self._overrun += struct.unpack("II", counts)[1]  # reading resets the kernel's counter
        return self._overrun


def packet_socket(interface: str) -> socket.socket:
    """Return a socket for all frames from and to an interface of the calling thread's network."""
    frames = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, 0)
    frames.setsockopt(_SOL_PACKET, _PACKET_IGNORE_OUTGOING, 1)
    frames.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _RECEIVE_BUFFER_BYTES)
    frames.bind((interface, _ETH_P_ALL))
    return frames
