"""A site that reaches the data center only through an IPsec VPN, with real IKEv2, ESP and the box's firewall."""

from __future__ import annotations

from pathlib import Path

import pytest
from scapy.layers.inet import IP, UDP, UDPerror
from scapy.layers.l2 import ARP, Ether
from scapy.utils import PcapReader

from sim.lab.labfile import Lab, parse_lab
from sim.verdict.result import Result
from sim.worlds.kernel import KernelLab
from sim.worlds.kernel.supervision.supervisor import run
from sim.worlds.kernel.world import KernelWorld
from sim.worlds.shared.site.addresses import BOX, ROUTER
from sim.worlds.virtual.run import run_virtual_lab
from tests.support.eventually import eventually
from tests.support.sim.kernel_labs import small_lab

pytestmark = pytest.mark.kernel
IKE = {500, 4500}
EVENTS = """
[[event]]
at = "8s"
fault = "power-cut"
target = "box"
[expect]
lost = 0
"""
SESSION = """
[[session]]
at = "3s"
target = "instrument:1"
lasts = "1min"
answers_after = "1s"
open_for = "4s"
[expect]
lost = 0
"""


def site(more: str = EVENTS, proxy: str = "") -> Lab:
    text = small_lab("vpn", "500ms", duration="25s", proxy=f"vpn = true\n{proxy}", more=more)
    return parse_lab(text, Path("vpn.toml"))


def in_kernel_world(name: str, lab: Lab, capture: Path, *, has_gateway: bool = True) -> Result:
    async def main(namespaces: KernelLab) -> Result:
        namespaces.deadline.within(100, "the test")
        world = KernelWorld(namespaces, lab)
        world.site.uplink.start_capture(capture)
        await world.start()
        if not has_gateway:
            assert world.gateway is not None
            world.gateway.kill()
        await eventually(lambda: world.env.now >= lab.about.duration, 100)
        world.site.uplink.stop_capture()
        return world.finish()

    result: Result = run(name, main, writable=[capture.parent])
    return result


def outside(capture: Path) -> set[str]:
    """Return the packets on the uplink other than IKE, ESP in UDP, errors about these, and ARP."""
    with PcapReader(str(capture)) as packets:
        frames = [Ether(bytes(packet)) for packet in packets]
    assert frames
    return {frame.summary() for frame in frames if not (_is_of_vpn(frame) or ARP in frame)}


def _is_of_vpn(frame: Ether) -> bool:
    if IP not in frame or {frame[IP].src, frame[IP].dst} != {BOX, ROUTER}:
        return False
    datagram = frame.getlayer(UDP) or frame.getlayer(UDPerror)
    return datagram is not None and {datagram.sport, datagram.dport} <= IKE


@pytest.mark.slow("a lab runs in real time")
@pytest.mark.parametrize("proxy", ["", 'proxy = { kind = "socks5", auth = "none" }'], ids=["direct", "proxy"])
def test_reports_travel_only_inside_the_vpn_even_after_a_power_cut(
    name: str, proxy: str, tmp_path: Path
) -> None:
    lab, capture = site(proxy=proxy), tmp_path / "uplink.pcapng"
    kernel, virtual = in_kernel_world(name, lab, capture), run_virtual_lab(lab, None, None)
    for result in (kernel, virtual):
        assert result.verdict == "pass", (result.world, result.failures)
    assert [one.name for one in kernel.expectations] == [one.name for one in virtual.expectations]
    assert kernel.reports.stored > 10
    assert outside(capture) == set()


@pytest.mark.slow("a lab runs in real time")
def test_a_session_travels_inside_the_vpn_beside_reports(name: str, tmp_path: Path) -> None:
    lab, capture = site(SESSION), tmp_path / "uplink.pcapng"
    for result in (in_kernel_world(name, lab, capture), run_virtual_lab(lab, None, None)):
        assert result.verdict == "pass", (result.world, result.failures)
        (session,) = result.sessions
        assert session.causes == ("ended by the person",)
        assert session.tunnel_seconds > 3
        assert session.problems == ()
    assert outside(capture) == set()


@pytest.mark.slow("a lab runs in real time")
def test_without_the_gateway_nothing_leaves_the_box(name: str, tmp_path: Path) -> None:
    result = in_kernel_world(name, site("[expect]\nlost = 0"), tmp_path / "uplink.pcapng", has_gateway=False)
    assert result.reports.stored == 0
    assert result.reports.lost == 0
    assert outside(tmp_path / "uplink.pcapng") == set()
