"""Names, addresses and ports of a lab's hosts, the same in every world.

    instrument 10.77.N.10 ── 10.77.N.1 ┐
                                       box 192.168.1.2 ── 192.168.1.1 router ── 198.51.100.2 data center
    instrument 10.77.M.10 ── 10.77.M.1 ┘                                   └── 192.168.2.2 proxy

N is the number of the instrument port. The virtual world has no router: its uplink ends at the proxy, or at the data
center where the site has no proxy.
"""

from __future__ import annotations

from typing import Final

BOX_NAME: Final = "rap-box"
BOX_SERIAL: Final = BOX_NAME.upper()
DATACENTER_NAME: Final = "datacenter"
PROXY_NAME: Final = "proxy"
SIEM_NAME: Final = "siem"

COLLECTOR_PORT: Final = 443
"""The box's TCP port for instruments' reports."""
DATACENTER_PORT: Final = 443

BOX: Final = "192.168.1.2"
BOX_MOVED: Final = "192.168.1.3"
"""The box's second address: each address change on the uplink switches to the other of the two."""
ROUTER: Final = "192.168.1.1"
PROXY: Final = "192.168.2.2"
DATACENTER: Final = "198.51.100.2"
DATACENTER_MOVED: Final = "198.51.100.3"
"""The data center's second address, to which the site's network also lets the box connect."""
DATACENTER_TUNNEL: Final = "198.51.100.4"
"""The data center's address for tunnels of remote sessions, on the same port as for reports."""
SIEM: Final = "198.51.100.5"
"""The SIEM, in the data center's network."""
SIEM_PORT: Final = 6514
TUNNEL_DEVICE: Final = "rap-tun0"
"""The box's TUN device for remote sessions, where it has the address TUNNEL_BOX."""
TUNNEL_BOX: Final = "10.99.0.1"
TUNNEL_STAFF: Final = "10.99.0.2"
"""The staff's address in each tunnel."""
PREFIX_BITS: Final = 24
"""Prefix length of every subnet, in bits."""
INSTRUMENTS: Final = "10.77.0.0/16"
"""The network that contains the subnets of all instrument ports."""


def box_address(port: int) -> str:
    """Return the box's address on the subnet of an instrument port."""
    return f"10.77.{port}.1"


def instrument_address(port: int) -> str:
    """Return the address of the instrument at a port."""
    return f"10.77.{port}.10"
