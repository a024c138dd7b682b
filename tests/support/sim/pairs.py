"""Two hosts of a kernel lab with a link between them, and traffic over it."""

from __future__ import annotations

import asyncio
import socket
import time
from dataclasses import dataclass

from sim.net.link import LinkQuality
from sim.worlds.kernel import KernelLab, KernelLink, NamespaceHost
from tests.support.eventually import WAIT_SECONDS_MAX

PORT = 4000


@dataclass
class Pair:
    """Two hosts and the link between them."""

    one: NamespaceHost
    other: NamespaceHost
    link: KernelLink

    def open_socket(self, host: NamespaceHost, kind: socket.SocketKind = socket.SOCK_DGRAM) -> socket.socket:
        with host.inside():
            opened = socket.socket(socket.AF_INET, kind)
        opened.settimeout(WAIT_SECONDS_MAX)
        return opened

    def datagrams(self) -> tuple[socket.socket, socket.socket]:
        """Return a UDP socket at each end, connected to the other one."""
        near, far = self.open_socket(self.one), self.open_socket(self.other)
        far.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_000_000)
        near.bind(("10.9.0.1", PORT))
        far.bind(("10.9.0.2", PORT))
        near.connect(("10.9.0.2", PORT))
        far.connect(("10.9.0.1", PORT))
        return near, far


def pair(lab: KernelLab, quality: LinkQuality) -> Pair:
    """Link `one` (eth1, 10.9.0.1) and `other` (eth2, 10.9.0.2), without IPv6, which sends additional packets."""
    hosts = lab.host("one"), lab.host("other")
    for host in hosts:
        host.sysctl("net.ipv6.conf.default.disable_ipv6", 1)
    one, other = hosts
    link = lab.link("uplink", (one, "eth1"), (other, "eth2"), quality)
    one.address("eth1", "10.9.0.1/24")
    other.address("eth2", "10.9.0.2/24")
    return Pair(one, other, link)


async def send_and_wait(sender: socket.socket, receiver: socket.socket, data: bytes = b"hello") -> None:
    """Send a datagram and wait until it arrives, ignoring earlier ones."""
    sender.send(data)
    while await asyncio.to_thread(receiver.recv, 65536) != data:
        pass


async def arrives(sender: socket.socket, receiver: socket.socket, seconds: float) -> bool:
    """Return whether a datagram that is sent now arrives within `seconds`."""
    sender.send(b"probe")
    receiver.settimeout(seconds)
    try:
        return bool(await asyncio.to_thread(receiver.recv, 65536))
    except TimeoutError:
        return False
    finally:
        receiver.settimeout(WAIT_SECONDS_MAX)


async def transfer(pair: Pair, data: bytes) -> float:
    """Send data from `one` to `other` by TCP; return the seconds from the start to the end of the connection."""
    server, client = (
        pair.open_socket(pair.other, socket.SOCK_STREAM),
        pair.open_socket(pair.one, socket.SOCK_STREAM),
    )
    server.bind(("10.9.0.2", PORT))
    server.listen()
    started = time.monotonic()

    def send() -> None:
        client.connect(("10.9.0.2", PORT))
        client.sendall(data)
        client.shutdown(socket.SHUT_WR)

    def receive() -> bytes:
        connection, _ = server.accept()
        connection.settimeout(WAIT_SECONDS_MAX)
        with connection, connection.makefile("rb") as stream:
            return bytes(stream.read())

    _, received = await asyncio.gather(asyncio.to_thread(send), asyncio.to_thread(receive))
    assert received == data
    return time.monotonic() - started
