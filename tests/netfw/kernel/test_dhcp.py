"""DHCP through the firewall: a real client and a real server; other packets with the same ports are refused."""

from __future__ import annotations

import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from netfw.kernel.firewall import Firewall
from netfw.kernel.nft import Nft
from netfw.policy.policy import Policy
from netfw.policy.policyfile import load_policy
from tests.support.eventually import poll_until
from tests.support.namespaces import Namespace, cable, namespaces
from tests.support.paths import FIXTURES

pytestmark = pytest.mark.kernel

POLICY = load_policy(FIXTURES / "policies/lease.toml")
WITHOUT_DHCP = replace(POLICY, uses_dhcp=False)
SERVER = {4: "192.0.2.1", 6: "fe80::1"}
BOX = {4: "192.0.2.50", 6: "fe80::2"}


class DhcpNetwork:
    """The box, and a DHCP server at its uplink and at its first instrument port."""

    def __init__(self, box: Namespace, outside: Namespace, instrument: Namespace) -> None:
        self.box, self.outside, self.instrument = box, outside, instrument

    def apply(self, policy: Policy) -> None:
        nft = self.box.run(Nft)
        Firewall(nft).apply(policy)
        nft.close()

    def refused(self, cause: str) -> int:
        nft = self.box.run(Nft)
        count = Firewall(nft).counts()[cause].packets
        nft.close()
        return count

    def addresses(self) -> str:
        return self.box.command("ip", "addr", "show", "dev", "enp1s0", capture_output=True).stdout

    def arrives(
        self,
        sender_host: Namespace,
        source: tuple[str, int],
        receiver_host: Namespace,
        target: tuple[str, int],
    ) -> bool:
        """Send a datagram; return whether it arrives, which it does not if it is refused."""
        family = socket.AF_INET6 if ":" in source[0] else socket.AF_INET
        sender = sender_host.socket(family, socket.SOCK_DGRAM)
        receiver = receiver_host.socket(family, socket.SOCK_DGRAM)
        with sender, receiver:
            for sock, (_, port) in ((sender, source), (receiver, target)):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
                sock.bind(("::" if family == socket.AF_INET6 else "0.0.0.0", port))
            scope = (0, self.index(sender_host)) if family == socket.AF_INET6 else ()
            receiver.settimeout(0.3)
            for _ in range(3):
                with suppress(PermissionError, ConnectionRefusedError):  # the errors of a rejected packet
                    sender.sendto(b"lease", (target[0], target[1], *scope))
                with suppress(TimeoutError):
                    return receiver.recv(100) == b"lease"
            return False

    def index(self, host: Namespace) -> int:
        name = {self.box.fd: "enp1s0", self.outside.fd: "wan", self.instrument.fd: "eth0"}[host.fd]
        return host.run(lambda: socket.if_nametoindex(name))


@pytest.fixture
def network() -> Iterator[DhcpNetwork]:
    with namespaces(3) as (box, outside, instrument):
        cable(box, "enp1s0", outside, "wan")
        cable(box, "enp2s0", instrument, "eth0")
        outside.ip("addr add 192.0.2.1/24 dev wan", "addr add fe80::1/64 dev wan nodad")
        instrument.ip("addr add 10.77.1.5/24 dev eth0")
        box.ip(
            "addr add 10.77.1.1/24 dev enp2s0",
            "addr add fe80::2/64 dev enp1s0 nodad",
        )
        yield DhcpNetwork(box, outside, instrument)


@contextmanager
def dhcp_server(host: Namespace, interface: str, first: str, last: str, folder: Path) -> Iterator[None]:
    command = [
        *("dnsmasq", "--keep-in-foreground", "--port=0", "--conf-file=/dev/null", "--no-ping", "--user=root"),
        *(f"--interface={interface}", "--bind-interfaces", f"--dhcp-range={first},{last},2m"),
        *(f"--dhcp-leasefile={folder}/{interface}.leases", f"--pid-file={folder}/{interface}.pid"),
        "--dhcp-authoritative",
    ]
    with subprocess.Popen(host.wrap(*command), stderr=subprocess.DEVNULL) as server:
        poll_until((folder / f"{interface}.pid").exists)
        try:
            yield
        finally:
            server.kill()


@contextmanager
def dhcp_client(network: DhcpNetwork, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    script = folder / "script"
    script.write_text(
        f"""#!/bin/sh
echo "$1 $ip" >> {folder}/events
case "$1" in
bound|renew) ip addr replace $ip/24 dev $interface ;;
deconfig) ip -4 addr flush dev $interface ;;
esac
"""
    )
    script.chmod(0o755)
    command = ["udhcpc", "-f", "-i", "enp1s0", "-s", str(script), "-t", "20", "-T", "1", "-B"]
    quiet = subprocess.DEVNULL
    with subprocess.Popen(network.box.wrap(*command), stdout=quiet, stderr=quiet) as client:
        try:
            yield client
        finally:
            client.kill()


def events(folder: Path) -> list[str]:
    file = folder / "events"
    return file.read_text().splitlines() if file.exists() else []


@pytest.mark.skipif(
    not (shutil.which("udhcpc") and shutil.which("dnsmasq")), reason="needs udhcpc and dnsmasq"
)
def test_a_lease_is_obtained_renewed_and_replaced_by_another_address(
    network: DhcpNetwork, tmp_path: Path
) -> None:
    network.apply(POLICY)
    with dhcp_client(network, tmp_path) as client:
        with dhcp_server(network.outside, "wan", "192.0.2.50", "192.0.2.50", tmp_path):
            poll_until(lambda: "inet 192.0.2.50/24" in network.addresses())
            client.send_signal(10)  # SIGUSR1: renew, by unicast to the server
            poll_until(lambda: "renew 192.0.2.50" in events(tmp_path))
        for file in ("wan.leases", "wan.pid"):
            (tmp_path / file).unlink(missing_ok=True)
        with dhcp_server(network.outside, "wan", "192.0.2.60", "192.0.2.60", tmp_path):
            client.send_signal(10)  # the server, which has other addresses, refuses to renew
            poll_until(lambda: "inet 192.0.2.60/24" in network.addresses())


def test_broadcasts_and_unsolicited_messages_of_a_server_arrive(network: DhcpNetwork) -> None:
    network.box.ip("addr add 192.0.2.50/24 dev enp1s0")
    for policy, allowed in ((POLICY, True), (WITHOUT_DHCP, False)):
        network.apply(policy)
        for target in ("192.0.2.50", "255.255.255.255", "192.0.2.255"):
            if target.startswith("255"):
                network.outside.command("ip", "route", "replace", "255.255.255.255", "dev", "wan")
            arrived = network.arrives(network.outside, (SERVER[4], 67), network.box, (target, 68))
            assert arrived is allowed, (target, allowed)


@pytest.mark.parametrize(("policy", "allowed"), [(POLICY, True), (WITHOUT_DHCP, False)])
def test_dhcpv6_passes_in_both_directions_if_the_policy_permits_it(
    network: DhcpNetwork, policy: Policy, allowed: bool
) -> None:
    network.apply(policy)
    assert network.arrives(network.outside, (SERVER[6], 547), network.box, (BOX[6], 546)) is allowed
    network.outside.command("ip", "link", "set", "wan", "allmulticast", "on")
    before = network.refused("egress")
    with network.box.socket(socket.AF_INET6, socket.SOCK_DGRAM) as client:
        client.bind(("::", 546))
        with suppress(PermissionError):
            client.sendto(b"solicit", ("ff02::1:2", 547, 0, network.index(network.box)))
    assert (network.refused("egress") == before) is allowed


@pytest.mark.parametrize(
    ("client", "server_port"),
    [
        (("192.0.2.50", 68), 69),
        (("192.0.2.50", 69), 67),
        (("192.0.2.50", 546), 547),
        (("192.0.2.50", 67), 68),
    ],
)
def test_dhcp_with_other_ports_is_refused(
    network: DhcpNetwork, client: tuple[str, int], server_port: int
) -> None:
    network.box.ip("addr add 192.0.2.50/24 dev enp1s0")
    network.apply(POLICY)
    assert not network.arrives(network.box, client, network.outside, (SERVER[4], server_port))
    assert not network.arrives(network.outside, (SERVER[4], server_port), network.box, client)


def test_a_dhcp_server_at_an_instrument_port_is_refused(network: DhcpNetwork) -> None:
    network.apply(POLICY)
    for target in ("10.77.1.1", "10.77.1.255"):
        before = network.refused("instrument")
        assert not network.arrives(network.instrument, ("10.77.1.5", 67), network.box, (target, 68))
        assert network.refused("instrument") > before
    network.instrument.ip("addr add fe80::5/64 dev eth0 nodad")
    network.box.ip("addr add fe80::9/64 dev enp2s0 nodad")
    before = network.refused("spoofed")
    assert not network.arrives(network.instrument, ("fe80::5", 547), network.box, ("fe80::9", 546))
    assert network.refused("spoofed") > before
    assert not network.arrives(network.box, ("10.77.1.1", 68), network.instrument, ("10.77.1.5", 67))
