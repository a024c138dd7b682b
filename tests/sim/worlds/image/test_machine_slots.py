"""The network cards of a box's virtual machine are in the slots that give its board's interface names."""

from __future__ import annotations

import pytest

from settings.board import board_names, load_board
from sim.worlds.image.machine.slots import Slot, cards, interfaces, slot_of


@pytest.mark.parametrize(
    ("interface", "slot"),
    [
        ("enp1s0", Slot(1, 0)),
        ("enp12s0f7", Slot(12, 7)),
        ("eno1", Slot(0, 1)),
        ("eno9", Slot(0, 9)),
        ("enp13s0", None),
        ("enp0s3", None),
        ("enp1s1", None),
        ("enp1s0f8", None),
        ("eno0", None),
        ("eth0", None),
        ("", None),
    ],
)
def test_the_slot_follows_from_the_interface_name(interface: str, slot: Slot | None) -> None:
    assert slot_of(interface) == slot


@pytest.mark.parametrize("name", board_names())
def test_each_board_can_be_emulated(name: str) -> None:
    board = load_board(name)
    slots = {interface: slot for interface in interfaces(board) if (slot := slot_of(interface))}
    assert list(slots) == [board.uplink, *board.instrument_ports.values()]
    assert len(set(slots.values())) == len(slots)


def test_only_a_port_with_a_cable_has_a_tap_device() -> None:
    board = load_board("rap-4")
    slots = {interface: slot for interface in interfaces(board) if (slot := slot_of(interface))}
    arguments = " ".join(cards(slots, {"enp1s0", "enp3s0"}))
    assert "tap,ifname=enp1s0" in arguments and "tap,ifname=enp3s0" in arguments
    assert arguments.count("tap,") == 2 and arguments.count("hubport,") == 3
    assert arguments.count("vnet_hdr=off") == 2
    for bus in range(1, 6):
        assert f"chassis={bus}" in arguments and f"bus=bus{bus}," in arguments


def test_the_cards_of_one_slot_are_its_functions() -> None:
    slots = {name: slot for name in ("enp1s0f0", "enp1s0f1", "eno1") if (slot := slot_of(name))}
    arguments = " ".join(cards(slots, set()))
    assert "addr=0x0.0x0,multifunction=on" in arguments and "addr=0x0.0x1,multifunction=on" in arguments
    assert arguments.count("pcie-root-port") == 1
    assert "kind=ethernet,instance=1,pcidev=card-eno1" in arguments
