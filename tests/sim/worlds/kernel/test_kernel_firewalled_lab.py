"""The box of a kernel lab behind nftables, with the policy and the intruders of the virtual world."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from sim.lab.labfile import parse_lab
from sim.worlds.kernel import KernelLab
from sim.worlds.kernel.supervision.supervisor import run
from sim.worlds.kernel.world import KernelWorld
from sim.worlds.shared import intruders
from sim.worlds.shared.intruders import TCP_PORTS, forbidden
from sim.worlds.shared.site.addresses import BOX, box_address, instrument_address
from tests.support import eventually as polling
from tests.support.sim.kernel_labs import small_lab

pytestmark = pytest.mark.kernel

eventually = partial(polling.eventually, seconds_max=60, every_s=0.02)

SECOND_PORT = """\
[[instrument]]
port = 2
model = "hematology-analyzer"
report_every = "200ms"
"""
LAB = parse_lab(small_lab("walled", "200ms", more=SECOND_PORT), Path("walled.toml"))


@pytest.fixture(autouse=True)
def _short_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten the wait for dropped packets; a response over a LAN takes less."""
    monkeypatch.setattr(intruders, "WAIT_SECONDS_MAX", 0.3)


async def output(lab: KernelLab, *argv: str) -> str:
    program = lab.hosts["box"].spawn(argv)
    assert await program.wait() == 0, program.output()
    return program.output()


async def intrude(world: KernelWorld) -> None:
    """Let each intruder attempt every forbidden address and port once."""
    attempts = sum(len(ports) for port in (None, 1) for ports in forbidden(world.lab, port).values())
    ends = [world.intruders.begin(where, 3600 * 10**9) for where in ("uplink", "instrument:1")]
    await eventually(lambda: world.intruders.found.tried == attempts)
    for end in ends:
        end()


def test_the_ruleset_passes_reports_and_blocks_intruders(name: str) -> None:
    async def main(lab: KernelLab) -> tuple[str, list[str], dict[str, int], int, str]:
        world = KernelWorld(lab, LAB)
        closed = await output(lab, "cat", "/sys/class/net/enp2s0/flags")
        assert not int(closed, 16) & 1
        await world.start()
        await eventually(lambda: world.datacenter.stored > 10)
        ruleset = await output(lab, "nft", "list", "table", "inet", "rap")
        assert (await output(lab, "cat", "/proc/sys/net/ipv4/tcp_timestamps")).strip() == "0"
        await intrude(world)
        refused = dict(world.box.refused())
        stored = world.datacenter.stored
        await eventually(lambda: world.datacenter.stored > stored)
        result = world.finish()
        return ruleset, world.intruders.found.reached, refused, result.reports.lost, result.verdict

    ruleset, reached, refused, lost, verdict = run(name, main)
    assert 'comment "policy ' in ruleset
    assert f'"enp2s0" . {box_address(1)} . tcp . 443' in ruleset
    assert reached == []
    assert refused["outside"] >= len(TCP_PORTS)
    assert refused["instrument"] >= len(TCP_PORTS)
    assert (lost, verdict) == (0, "pass")


def test_an_additional_service_admits_the_intruder(name: str) -> None:
    async def main(lab: KernelLab) -> list[str]:
        world = KernelWorld(lab, LAB)
        policy = lab.folder / "box" / "firewall.toml"
        text = policy.read_text()
        assert '"tcp/443",' in text
        policy.write_text(text.replace('"tcp/443",', '"tcp/443", "tcp/22",'))
        await world.start()
        await eventually(lambda: world.datacenter.stored > 10)
        await intrude(world)
        return world.intruders.found.reached

    assert run(name, main) == [f"instrument:1 reached {box_address(1)}, tcp/22"]


def test_without_a_ruleset_the_same_intruders_reach_their_targets(name: str) -> None:
    """Proves that the ruleset blocks the intruders, not a missing route."""

    async def main(lab: KernelLab) -> list[str]:
        world = KernelWorld(lab, LAB)
        for port in ("enp2s0", "enp3s0"):
            box = lab.hosts["box"].netlink
            box.set_interface(box.index(port), state="up")
        lab.hosts["box"].sysctl("net.ipv4.ip_forward", 1)
        world.analyzers = {spec.port: world.make_analyzer(spec) for spec in LAB.instruments}
        await intrude(world)
        return world.intruders.found.reached

    reached = run(name, main)
    assert f"uplink reached {BOX}, tcp/22" in reached
    assert f"uplink reached {instrument_address(2)}, tcp/443" in reached
    assert f"instrument:1 reached {instrument_address(2)}, tcp/5900" in reached
