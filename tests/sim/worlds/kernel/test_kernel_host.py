"""Hosts of the kernel world, each with its own network, name and programs."""

from __future__ import annotations

import signal
import socket
from pathlib import Path

import pytest

from sim.net.link import LinkQuality
from sim.worlds.kernel import KernelLab
from sim.worlds.kernel.supervision.supervisor import run
from tests.support.sim.pairs import PORT, pair, send_and_wait

pytestmark = pytest.mark.kernel

FAST = LinkQuality(rate_bits=100_000_000)


async def output(lab: KernelLab, host: str, *argv: str) -> str:
    program = lab.hosts[host].spawn(argv)
    assert await program.wait() == 0, program.output()
    return program.output()


def test_a_program_sees_only_its_own_host(name: str) -> None:
    async def main(lab: KernelLab) -> list[str]:
        pair(lab, FAST)
        return [
            await output(lab, "one", "hostname"),
            await output(lab, "one", "ls", "/sys/class/net"),
            await output(lab, "other", "ls", "/sys/class/net"),
            await output(lab, "one", "ip", "netns", "exec", "other", "ls", "/sys/class/net"),
        ]

    assert [lines.split() for lines in run(name, main)] == [
        ["one"],
        ["eth1", "lo"],
        ["eth2", "lo"],
        ["eth2", "lo"],
    ]


def test_packets_are_forwarded_by_a_router(name: str) -> None:
    async def main(lab: KernelLab) -> str:
        both = pair(lab, FAST)
        third = lab.host("third")
        lab.link("backbone", (both.other, "eth3"), (third, "eth0"), FAST)
        both.other.address("eth3", "10.9.1.1/24")
        third.address("eth0", "10.9.1.2/24")
        both.one.route("10.9.1.0/24", "10.9.0.2")
        third.route("default", "10.9.1.1")
        both.other.sysctl("net.ipv4.ip_forward", 1)
        near, far = both.open_socket(both.one), both.open_socket(third)
        near.bind(("10.9.0.1", PORT))
        far.bind(("10.9.1.2", PORT))
        near.connect(("10.9.1.2", PORT))
        await send_and_wait(near, far)
        address: str = far.getsockname()[0]
        return address

    assert run(name, main) == "10.9.1.2"


def test_an_ipv6_address_is_usable_at_once(name: str) -> None:
    async def main(lab: KernelLab) -> None:
        one, other = lab.host("one"), lab.host("other")
        lab.link("uplink", (one, "eth0"), (other, "eth0"), FAST)
        one.address("eth0", "fd00::1/64")
        other.address("eth0", "fd00::2/64")
        with other.inside():
            far = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        far.settimeout(10)
        far.bind(("fd00::2", PORT))
        with one.inside():
            near = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        near.connect(("fd00::2", PORT))
        await send_and_wait(near, far)

    run(name, main)


def test_the_return_code_of_a_program_is_its_status_or_signal(name: str) -> None:
    async def main(lab: KernelLab) -> list[object]:
        host = lab.host("box")
        fails = host.spawn(["sh", "-c", "echo $WHAT; exit 3"], env={"WHAT": "no paper"})
        status = await fails.wait()
        sleeps = host.spawn(["sleep", "1000"])
        before = sleeps.returncode
        sleeps.send_signal(signal.SIGTERM)
        missing = host.spawn(["no-such-program"])
        ends = [status, fails.output(), before, await sleeps.wait(), await missing.wait()]
        sleeps.kill()
        return [*ends, "no-such-program" in missing.output()]

    assert run(name, main) == [3, "no paper\n", None, -signal.SIGTERM, 127, True]


def test_orphaned_processes_are_reaped(name: str) -> None:
    async def main(lab: KernelLab) -> list[str]:
        shell = lab.host("box").spawn(["sh", "-c", "(true & echo $!; exec sleep 0.02) & wait"])
        await shell.wait()
        await lab.host("other").spawn(["sleep", "0.05"]).wait()
        return [entry.name for entry in Path("/proc").iterdir() if entry.name.isdecimal()]  # noqa: ASYNC240

    assert sorted(run(name, main)) == ["1", "2"]


def test_an_unknown_interface_and_a_duplicate_host_are_named_in_the_error(name: str) -> None:
    async def main(lab: KernelLab) -> list[str]:
        host = lab.host("box")
        lines = []
        try:
            host.address("eth7", "10.0.0.1/24")
        except KeyError as error:
            lines.append(str(error))
        try:
            lab.host("box")
        except ValueError as error:
            lines.append(str(error))
        return lines

    interface, host = run(name, main)
    assert "'eth7'" in interface
    assert "'box' already" in host
