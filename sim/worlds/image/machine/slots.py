"""The PCI slots of a board's Ethernet ports, from the names of its interfaces.

Interface names are systemd's predictable ones (systemd.net-naming-scheme(7)): enp2s0f1 is bus 2, device 0, function
1; eno1 is the first Ethernet port that the firmware lists as on-board.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, NamedTuple

from settings.board import Board

_SLOT: Final = re.compile(r"enp([1-9]\d?)s0(?:f([0-7]))?")
_ON_BOARD: Final = re.compile(r"eno([1-9])")
BUSES_MAX: Final = 12
"""Maximum number of root ports on QEMU's q35 machine, besides the disk and the on-board ports."""


class Slot(NamedTuple):
    """The position of a card. With `bus` 0, `function` is its number among the on-board ports."""

    bus: int
    function: int


def slot_of(interface: str) -> Slot | None:
    """Return the slot of an interface by its name; None if QEMU has no such slot."""
    if match := _ON_BOARD.fullmatch(interface):
        return Slot(0, int(match[1]))
    match = _SLOT.fullmatch(interface)
    if match is None or int(match[1]) > BUSES_MAX:
        return None
    return Slot(int(match[1]), int(match[2] or 0))


def interfaces(board: Board) -> list[str]:
    """Return all Ethernet interfaces of a board, the uplink first."""
    return [board.uplink, *board.instrument_ports.values()]


def cards(slots: Mapping[str, Slot], cables: set[str]) -> list[str]:
    """Return QEMU's arguments for a card in each slot; those in `cables` use the TAP device of the same name."""
    arguments = []
    for bus in range(1, max((slot.bus for slot in slots.values()), default=0) + 1):
        arguments += ["-device", f"pcie-root-port,id=bus{bus},bus=pcie.0,addr={bus + 1:#x},chassis={bus}"]
    for index, (interface, slot) in enumerate(slots.items()):
        arguments += _card(index, interface, slot, interface in cables)
    return arguments


def card_id(interface: str) -> str:
    """Return the name of an interface's card in QEMU."""
    return f"card-{interface}"


def _card(index: int, interface: str, slot: Slot, cabled: bool) -> list[str]:
    card = f"virtio-net-pci,id={card_id(interface)},mac=52:54:00:00:00:{index + 1:02x}"
    arguments = []
    if slot.bus:
        card += f",bus=bus{slot.bus},addr=0x0.{slot.function:#x},multifunction=on"
    else:
        card += f",bus=pcie.0,addr={0x11 + slot.function:#x}"
        on_board = f"type=41,designation=Onboard LAN,kind=ethernet,instance={slot.function}"
        arguments += ["-smbios", f"{on_board},pcidev={card_id(interface)}"]
    # without vnet_hdr, each frame is complete, with its checksum, as on a cable
    tap = f"tap,ifname={interface},script=no,downscript=no,vnet_hdr=off"
    back = tap if cabled else f"hubport,hubid={index}"
    return [*arguments, "-netdev", f"{back},id=net-{interface}", "-device", f"{card},netdev=net-{interface}"]
