"""Who has which address in a lab, the same in every world.

    instrument 10.77.N.10 ── 10.77.N.1 ┐
                                       box 192.168.1.2 ── 192.168.1.1 router ── 198.51.100.2 data center
    instrument 10.77.M.10 ── 10.77.M.1 ┘                                   └── 192.168.2.2 proxy

N is the port's number. The virtual world has no router: there the uplink leads straight to whoever comes next.
"""

from __future__ import annotations

from typing import Final

BOX: Final = "192.168.1.2"
BOX_MOVED: Final = "192.168.1.3"
"""What the box gets when its address on the uplink changes, and the other one when it changes again."""
ROUTER: Final = "192.168.1.1"
PROXY: Final = "192.168.2.2"
DATACENTER: Final = "198.51.100.2"
DATACENTER_MOVED: Final = "198.51.100.3"
"""Its other address, which the site's network lets the box go to as well."""
PREFIX_BITS: Final = 24
"""Of every subnet."""
INSTRUMENTS: Final = "10.77.0.0/16"
"""All instruments' subnets together."""


def box_address(port: int) -> str:
    """The box's address on the subnet of an instrument port."""
    return f"10.77.{port}.1"


def instrument_address(port: int) -> str:
    """The address of the instrument at a port."""
    return f"10.77.{port}.10"
