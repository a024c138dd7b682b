"""Both Ethernet ports pass the conformance suite: the emulated one, and the Linux one on a veth pair."""

from __future__ import annotations

import asyncio
import socket
import subprocess
from collections.abc import Callable, Coroutine, Iterator
from errno import ENOBUFS
from ipaddress import IPv4Interface, IPv6Interface
from pathlib import Path

import pytest

from hal.contract import ETHERNET_CHECKS
from hal.contract.ethernet import EthernetBench
from hal.contract.wait import wait_until
from hal.emul.ethernet import EmulEthernetPort
from hal.ethernet import EthernetError, EthernetErrorKind
from hal.linux import netlink
from hal.linux.ethernet import LinuxEthernetPort
from tests.support.eventually import poll_until
from tests.support.namespaces import own_network


class EmulEthernetBench:
    def __init__(self) -> None:
        self.port = EmulEthernetPort("uplink")
        backend = self.port.backend
        self.speed = backend.speed
        self.unplug, self.plug = backend.unplug, backend.plug
        self.remove_device, self.restore_device = backend.remove_device, backend.restore_device
        self.receive, self.send = backend.receive, backend.send
        self.add_address = backend.addresses.append


def ip(*arguments: object) -> None:
    subprocess.run(["ip", *map(str, arguments)], check=True, stderr=subprocess.DEVNULL)


def wait_until_operational(interface: str) -> None:
    """Wait until ifOperStatus (RFC 2863) is up: it follows the carrier with a short delay."""
    poll_until(lambda: netlink.interface_info(interface).operstate == netlink.OPERSTATE_UP)


class VethBench:
    """`rap0` is the port and `far0` its link partner, in a separate namespace; unplugging closes `far0`."""

    speed = 10_000

    def __init__(self) -> None:
        self.port = LinuxEthernetPort("uplink", "rap0")
        self.restore_device()
        self.port.set_up(True)
        for end in ("rap0", "far0"):  # before that, the kernel silently drops sent frames
            wait_until_operational(end)

    def restore_device(self) -> None:
        ip("link", "add", "rap0", "type", "veth", "peer", "name", "far0")
        for end in ("rap0", "far0"):  # frames of the kernel's neighbour discovery would be counted
            Path(f"/proc/sys/net/ipv6/conf/{end}/addr_gen_mode").write_text("1")
        self.plug()

    def remove_device(self) -> None:
        ip("link", "del", "rap0")

    def unplug(self) -> None:
        ip("link", "set", "far0", "down")

    def plug(self) -> None:
        ip("link", "set", "far0", "up")

    def add_address(self, address: IPv4Interface | IPv6Interface) -> None:
        ip("address", "add", address, "dev", "rap0", *(["nodad"] if address.version == 6 else []))

    def receive(self, frames: int, frame_bytes: int) -> None:
        self._send("far0", frames, frame_bytes)

    def send(self, frames: int, frame_bytes: int) -> None:
        self._send("rap0", frames, frame_bytes)

    @staticmethod
    def _send(interface: str, frames: int, frame_bytes: int) -> None:
        # IEEE 802 local experimental EtherType, which no stack answers
        head = b"\xff" * 6 + bytes(6) + b"\x88\xb5"
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as raw:
            raw.bind((interface, 0))
            for _ in range(frames):
                try:
                    raw.send(head.ljust(frame_bytes, b"."))
                except OSError as error:
                    assert error.errno == ENOBUFS  # returned when the other end of the pair is closed


@pytest.fixture
def veth() -> Iterator[VethBench]:
    with own_network():
        yield VethBench()


each_check = pytest.mark.parametrize("check", ETHERNET_CHECKS, ids=lambda check: check.__name__)


@each_check
def test_emul_ethernet(check: Callable[[EthernetBench], Coroutine[None, None, None]]) -> None:
    asyncio.run(check(EmulEthernetBench()))


@pytest.mark.kernel
@each_check
def test_linux_ethernet(
    check: Callable[[EthernetBench], Coroutine[None, None, None]], veth: VethBench
) -> None:
    asyncio.run(check(veth))


def test_a_missing_port_has_no_carrier() -> None:
    assert not LinuxEthernetPort("uplink", "nothere9").carrier()


@pytest.mark.kernel
def test_unknown_speed_is_none(veth: VethBench) -> None:
    ip("link", "set", "lo", "up")
    port = LinuxEthernetPort("port1", "lo")
    assert port.carrier() and port.speed() is None


def test_kernel_errors_are_mapped_to_kinds(monkeypatch: pytest.MonkeyPatch) -> None:
    port = LinuxEthernetPort("port1", "eth9")
    for errno, kind in (
        (1, EthernetErrorKind.DENIED),
        (19, EthernetErrorKind.UNAVAILABLE),
        (5, EthernetErrorKind.IO),
    ):

        def refuse(interface: str, up: bool, errno: int = errno) -> None:
            raise OSError(errno, "reason")

        monkeypatch.setattr(netlink, "set_link_up", refuse)
        with pytest.raises(EthernetError, match=r"port1 \(eth9\): reason") as caught:
            port.set_up(True)
        assert caught.value.kind is kind


def flood(interface: str) -> None:
    """Cause more link events (1.4 KB each) than a socket buffer of 208 KiB can hold."""
    commands = "".join(f"link set {interface} mtu {mtu}\n" for mtu in range(1000, 1400))
    subprocess.run(["ip", "-batch", "-"], input=commands.encode(), check=True)


@pytest.mark.kernel
def test_a_change_is_detected_although_its_event_was_lost(veth: VethBench) -> None:
    """The event of the unplugged cable is lost in a buffer overrun; the change is detected nevertheless."""
    errors: list[object] = []

    async def watch() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: errors.append(context))
        reported: list[bool] = []
        stop = veth.port.watch(reported.append)
        flood("far0")
        veth.unplug()
        await wait_until(lambda: reported == [False])
        veth.plug()
        await wait_until(lambda: reported == [False, True])
        stop()

    asyncio.run(watch())
    assert not errors


@pytest.mark.kernel
def test_the_socket_is_open_only_while_there_are_watchers(veth: VethBench) -> None:
    def open_files() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    async def watch() -> None:
        before = open_files()
        stops = [veth.port.watch(lambda carrier: None) for _ in range(3)]
        assert open_files() == before + 1
        for stop in stops:
            stop()
        assert open_files() == before

    asyncio.run(watch())
