"""What `hal.ethernet` promises."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from ipaddress import IPv4Interface, IPv6Interface, ip_interface
from typing import Protocol

from hal.contract.patience import until
from hal.ethernet import EthernetError, EthernetErrorKind, EthernetPort, PortTraffic

FRAMES, FRAME_BYTES = 20, 500


class EthernetBench(Protocol):
    """An open port with its cable in, without addresses."""

    port: EthernetPort
    speed: int | None
    """What `EthernetPort.speed` is to say while the cable is in, Mbit/s."""

    def unplug(self) -> None:
        """Pull the cable."""
        ...

    def plug(self) -> None:
        """Put it back."""
        ...

    def vanish(self) -> None:
        """Take the interface away."""
        ...

    def come_back(self) -> None:
        """Give it back, closed, with its cable in."""
        ...

    def give(self, address: IPv4Interface | IPv6Interface) -> None:
        """Configure an address on the port."""
        ...

    def receive(self, frames: int, frame_bytes: int) -> None:
        """Let the link partner send so many frames of so many bytes, with their heads and without checksum."""
        ...

    def send(self, frames: int, frame_bytes: int) -> None:
        """Let this machine send so many through the port."""
        ...


async def ethernet_sees_the_cable(bench: EthernetBench) -> None:
    """`carrier` says what is so now."""
    assert bench.port.carrier()
    bench.unplug()
    await until(lambda: not bench.port.carrier())
    bench.plug()
    await until(bench.port.carrier)


async def ethernet_tells_watchers(bench: EthernetBench) -> None:
    """Each change is told once, and the last call is the present state."""
    told: list[bool] = []
    stop = bench.port.watch(told.append)
    bench.unplug()
    await until(lambda: told == [False])
    bench.plug()
    await until(lambda: told == [False, True])
    stop()


async def ethernet_stops_telling(bench: EthernetBench) -> None:
    """After the result of `watch` was called nothing is told; other watchers still are. Twice is harmless."""
    told: list[bool] = []
    others: list[bool] = []
    stop = bench.port.watch(told.append)
    stop_other = bench.port.watch(others.append)
    stop()
    stop()
    bench.unplug()
    await until(lambda: others == [False])
    assert told == []
    stop_other()


async def ethernet_can_be_watched_again(bench: EthernetBench) -> None:
    """A watch begun after the last one ended is told like the first."""
    told: list[bool] = []
    bench.port.watch(told.append)()
    stop = bench.port.watch(told.append)
    bench.unplug()
    await until(lambda: told == [False])
    stop()


async def ethernet_opens_and_closes(bench: EthernetBench) -> None:
    """A closed port has no carrier on return, opening lets it come back, watchers are told, and twice is harmless."""
    told: list[bool] = []
    stop = bench.port.watch(told.append)
    for _ in range(2):
        bench.port.set_up(False)
        assert not bench.port.carrier()
    await until(lambda: told == [False])
    for _ in range(2):
        bench.port.set_up(True)
    await until(lambda: bench.port.carrier() and told == [False, True])
    stop()


async def ethernet_survives_its_interface(bench: EthernetBench) -> None:
    """A vanished port has no carrier and says GONE; it is the same port, and watched, when it comes back."""
    told: list[bool] = []
    stop = bench.port.watch(told.append)
    bench.vanish()
    await until(lambda: told == [False])
    assert not bench.port.carrier() and bench.port.speed() is None
    calls: list[Callable[[], object]] = [
        bench.port.addresses,
        bench.port.counters,
        lambda: bench.port.set_up(True),
        lambda: bench.port.set_up(False),
    ]
    assert [_kind(call) for call in calls] == [EthernetErrorKind.GONE] * len(calls)
    bench.come_back()
    assert not bench.port.carrier()
    bench.port.set_up(True)
    await until(lambda: told == [False, True])
    stop()


async def ethernet_says_its_speed(bench: EthernetBench) -> None:
    """The speed agreed to with the link partner, and None without one."""
    assert bench.port.speed() == bench.speed
    bench.unplug()
    await until(lambda: not bench.port.carrier())
    assert bench.port.speed() is None


async def ethernet_shows_its_addresses(bench: EthernetBench) -> None:
    """All of them, with their subnets, IPv4 first."""
    assert bench.port.addresses() == ()
    given = [ip_interface(text) for text in ("fd00:7::1/64", "192.0.2.1/24", "198.51.100.9/30")]
    for address in given:
        bench.give(address)
    shown = bench.port.addresses()
    assert sorted(shown, key=str) == sorted(given, key=str)
    assert [address.version for address in shown] == [4, 4, 6]


async def ethernet_counts(bench: EthernetBench) -> None:
    """Packets exactly, bytes with or without the frames' checksums, each way by itself; nothing while closed."""
    before = bench.port.counters()
    bench.receive(FRAMES, FRAME_BYTES)
    await until(lambda: bench.port.counters().received != before.received)
    bench.send(FRAMES // 2, FRAME_BYTES)
    await until(lambda: bench.port.counters().sent != before.sent)
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
    ethernet_sees_the_cable,
    ethernet_tells_watchers,
    ethernet_stops_telling,
    ethernet_can_be_watched_again,
    ethernet_opens_and_closes,
    ethernet_survives_its_interface,
    ethernet_says_its_speed,
    ethernet_shows_its_addresses,
    ethernet_counts,
)
