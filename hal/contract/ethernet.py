"""Conformance checks of `hal.ethernet`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from ipaddress import IPv4Interface, IPv6Interface, ip_interface
from typing import Protocol

from hal.contract.wait import wait_until
from hal.ethernet import EthernetError, EthernetErrorKind, EthernetPort, PortTraffic

FRAMES, FRAME_BYTES = 20, 500


class EthernetBench(Protocol):
    """An open port without addresses, whose cable is plugged in."""

    @property
    def port(self) -> EthernetPort:
        """The port."""
        ...

    @property
    def speed(self) -> int | None:
        """The expected `EthernetPort.speed` while the cable is plugged in, in Mbit/s."""
        ...

    def unplug(self) -> None:
        """Unplug the cable."""
        ...

    def plug(self) -> None:
        """Plug the cable in."""
        ...

    def remove_device(self) -> None:
        """Remove the network interface."""
        ...

    def restore_device(self) -> None:
        """Add the interface again: closed, with its cable plugged in."""
        ...

    def add_address(self, address: IPv4Interface | IPv6Interface) -> None:
        """Configure an address on the port."""
        ...

    def receive(self, frames: int, frame_bytes: int) -> None:
        """Have the link partner send frames of this size, including headers, without the frame check sequence."""
        ...

    def send(self, frames: int, frame_bytes: int) -> None:
        """Send frames of this size from this machine through the port."""
        ...


async def ethernet_detects_the_cable(bench: EthernetBench) -> None:
    """`carrier` follows the cable's state."""
    assert bench.port.carrier()
    bench.unplug()
    await wait_until(lambda: not bench.port.carrier())
    bench.plug()
    await wait_until(bench.port.carrier)


async def ethernet_notifies_watchers(bench: EthernetBench) -> None:
    """A watcher is called once for each change, the last time with the current state."""
    reported: list[bool] = []
    stop = bench.port.watch(reported.append)
    bench.unplug()
    await wait_until(lambda: reported == [False])
    bench.plug()
    await wait_until(lambda: reported == [False, True])
    stop()


async def ethernet_stops_notifying(bench: EthernetBench) -> None:
    """A stopped watcher is no longer called; others are; stopping twice is harmless."""
    reported: list[bool] = []
    others: list[bool] = []
    stop = bench.port.watch(reported.append)
    stop_other = bench.port.watch(others.append)
    stop()
    stop()
    bench.unplug()
    await wait_until(lambda: others == [False])
    assert reported == []
    stop_other()


async def ethernet_can_be_watched_again(bench: EthernetBench) -> None:
    """A watcher added after the last one was stopped is called like the first."""
    reported: list[bool] = []
    bench.port.watch(reported.append)()
    stop = bench.port.watch(reported.append)
    bench.unplug()
    await wait_until(lambda: reported == [False])
    stop()


async def ethernet_opens_and_closes(bench: EthernetBench) -> None:
    """A closed port has no carrier on return; opening restores it; watchers are called; repetition is harmless."""
    reported: list[bool] = []
    stop = bench.port.watch(reported.append)
    for _ in range(2):
        bench.port.set_up(False)
        assert not bench.port.carrier()
    await wait_until(lambda: reported == [False])
    for _ in range(2):
        bench.port.set_up(True)
    await wait_until(lambda: bench.port.carrier() and reported == [False, True])
    stop()


async def ethernet_survives_removal_of_interface(bench: EthernetBench) -> None:
    """A removed interface has no carrier and raises UNAVAILABLE; the port object works again when it returns."""
    reported: list[bool] = []
    stop = bench.port.watch(reported.append)
    bench.remove_device()
    await wait_until(lambda: reported == [False])
    assert not bench.port.carrier() and bench.port.speed() is None
    calls: list[Callable[[], object]] = [
        bench.port.addresses,
        bench.port.counters,
        lambda: bench.port.set_up(True),
        lambda: bench.port.set_up(False),
    ]
    assert [_kind(call) for call in calls] == [EthernetErrorKind.UNAVAILABLE] * len(calls)
    bench.restore_device()
    assert not bench.port.carrier()
    bench.port.set_up(True)
    await wait_until(lambda: reported == [False, True])
    stop()


async def ethernet_reports_speed(bench: EthernetBench) -> None:
    """`speed` is the negotiated speed, and None without carrier."""
    assert bench.port.speed() == bench.speed
    bench.unplug()
    await wait_until(lambda: not bench.port.carrier())
    assert bench.port.speed() is None


async def ethernet_lists_addresses(bench: EthernetBench) -> None:
    """`addresses` returns all addresses with their prefixes, IPv4 first."""
    assert bench.port.addresses() == ()
    added = [ip_interface(text) for text in ("fd00:7::1/64", "192.0.2.1/24", "198.51.100.9/30")]
    for address in added:
        bench.add_address(address)
    shown = bench.port.addresses()
    assert sorted(shown, key=str) == sorted(added, key=str)
    assert [address.version for address in shown] == [4, 4, 6]


async def ethernet_counts_traffic(bench: EthernetBench) -> None:
    """Packets are counted exactly, bytes with or without frame check sequences, per direction, only while open."""
    before = bench.port.counters()
    bench.receive(FRAMES, FRAME_BYTES)
    await wait_until(lambda: bench.port.counters().received != before.received)
    bench.send(FRAMES // 2, FRAME_BYTES)
    await wait_until(lambda: bench.port.counters().sent != before.sent)
    after = bench.port.counters()
    _assert_grown(before.received, after.received, FRAMES)
    _assert_grown(before.sent, after.sent, FRAMES // 2)
    bench.port.set_up(False)
    bench.receive(FRAMES, FRAME_BYTES)
    assert bench.port.counters().received.packets == after.received.packets


def _assert_grown(before: PortTraffic, after: PortTraffic, frames: int) -> None:
    assert after.packets - before.packets == frames
    assert frames * FRAME_BYTES <= after.bytes - before.bytes <= frames * (FRAME_BYTES + 4)
    assert after.errors == before.errors


def _kind(call: Callable[[], object]) -> EthernetErrorKind | None:
    try:
        call()
    except EthernetError as error:
        return error.kind
    return None


ETHERNET_CHECKS: tuple[Callable[[EthernetBench], Awaitable[None]], ...] = (
    ethernet_detects_the_cable,
    ethernet_notifies_watchers,
    ethernet_stops_notifying,
    ethernet_can_be_watched_again,
    ethernet_opens_and_closes,
    ethernet_survives_removal_of_interface,
    ethernet_reports_speed,
    ethernet_lists_addresses,
    ethernet_counts_traffic,
)
