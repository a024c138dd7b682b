"""An inspecting proxy and a read-only disk give the same verdict in the virtual and the kernel world."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from agents.box.status.status import StatusReport
from sim.lab.labfile import Lab, parse_lab
from sim.units import SECOND_NS
from sim.verdict.ledger import NEVER, LedgerEntry
from sim.verdict.result import Result
from sim.worlds.kernel import KernelLab
from sim.worlds.kernel.supervision.supervisor import run
from sim.worlds.kernel.world import KernelWorld
from sim.worlds.virtual.world import VirtualWorld
from tests.support.eventually import eventually
from tests.support.sim.kernel_labs import small_lab

pytestmark = [pytest.mark.kernel, pytest.mark.slow("labs in real time")]

SECONDS_MAX = 300
INSPECTION = """
[[event]]
at = "5s"
fault = "proxy-inspects"
target = "proxy"
lasts = "20s"
[[event]]
at = "8s"
fault = "proxy-inspects"
target = "proxy"
lasts = "5s"
"""
READ_ONLY = """
[[event]]
at = "5s"
fault = "link-down"
target = "uplink"
lasts = "15s"
[[event]]
at = "10s"
fault = "disk-read-only"
target = "disk"
lasts = "15s"
[[event]]
at = "12s"
fault = "power-cut"
target = "box"
[[event]]
at = "14s"
fault = "disk-read-only"
target = "disk"
lasts = "34s"
"""


@dataclass(frozen=True)
class Run:
    """A run of a lab, with an observation during its fault."""

    result: Result
    reports: list[LedgerEntry]
    issuer: str = ""
    """The issuer of the certificate for which the box reported a problem."""

    @property
    def outcomes(self) -> list[tuple[str, bool]]:
        return [(one.name, one.holds) for one in self.result.expectations]

    def made(self, begin_s: float, end_s: float) -> list[LedgerEntry]:
        """Return the reports made in this span of lab time, of which there must be some."""
        reports = [entry for entry in self.reports if begin_s * SECOND_NS < entry.made_ns < end_s * SECOND_NS]
        assert reports
        return reports


def lab(events: str, duration: str, expect: str, proxy: str = "") -> Lab:
    text = small_lab("one-lab", "500ms", duration=duration, proxy=proxy, more=f"{events}\n[expect]\n{expect}")
    return parse_lab(text, Path("one-lab.toml"))


def in_virtual_world(lab: Lab, observed_at_s: int) -> Run:
    with VirtualWorld(lab) as world:
        world.run_until(observed_at_s * SECOND_NS)
        status = world.loop.run_until_complete(world.box.status())
        world.run_until(lab.about.duration)
        issuer = status.trust.issuer if status is not None and status.trust is not None else ""
        return Run(world.finish(), list(world.ledger), issuer)


async def reach(world: KernelWorld, lab_ns: int) -> None:
    """Wait until the lab has reached this time."""
    await eventually(lambda: world.env.now >= lab_ns, SECONDS_MAX, every_s=0.05)


def in_kernel_world(name: str, lab: Lab, observed_at_s: int) -> Run:
    async def main(namespaces: KernelLab) -> Run:
        namespaces.deadline.within(SECONDS_MAX, "the test")
        world = KernelWorld(namespaces, lab)
        await world.start()
        await reach(world, observed_at_s * SECOND_NS)
        status = await world.box.status()
        await reach(world, lab.about.duration)
        assert status is None or isinstance(status, StatusReport)
        issuer = status.trust.issuer if status is not None and status.trust is not None else ""
        return Run(world.finish(), list(world.ledger), issuer)

    done: Run = run(name, main)
    return done


@pytest.mark.parametrize(
    "proxy", ['{ kind = "http", auth = "digest" }', '{ kind = "socks5", auth = "password" }']
)
def test_an_inspecting_proxy_is_named_and_receives_no_report(name: str, proxy: str) -> None:
    site = lab(INSPECTION, "100s", 'backlog_drained_within = "70s"', f"proxy = {proxy}")
    virtual, kernel = in_virtual_world(site, 22), in_kernel_world(name, site, 22)
    for observed in (virtual, kernel):
        assert observed.result.verdict == "pass", (observed.result.world, observed.result.failures)
        assert observed.issuer == '"clinic TLS inspection"'
        assert all(entry.stored_ns > 25 * SECOND_NS for entry in observed.made(7, 24))
    assert virtual.outcomes == kernel.outcomes


def test_on_a_read_only_disk_waiting_records_are_delivered_and_new_reports_refused(name: str) -> None:
    site = lab(READ_ONLY, "95s", "lost = 0")
    virtual, kernel = in_virtual_world(site, 30), in_kernel_world(name, site, 30)
    for observed, begin_s in ((virtual, 10), (kernel, 15)):  # a busy machine injects a fault seconds late
        assert observed.result.verdict == "pass", (observed.result.world, observed.result.failures)
        assert all(entry.stored_ns < 48 * SECOND_NS for entry in observed.made(6, 9)), (
            "waiting records are delivered"
        )
        refused = observed.made(begin_s, 47)
        early = [entry for entry in refused if entry.acknowledged_ns < 48 * SECOND_NS]
        assert not early, (observed.result.world, "new reports are refused")
        assert NEVER not in {entry.stored_ns for entry in refused}
    assert virtual.outcomes == kernel.outcomes


def test_a_fault_that_cannot_be_injected_is_a_program_error(name: str) -> None:
    def broken() -> None:
        raise RuntimeError("planted")

    async def main(namespaces: KernelLab) -> list[str]:
        namespaces.deadline.within(SECONDS_MAX, "the test")
        world = KernelWorld(namespaces, lab(READ_ONLY.replace("5s", "0s", 1), "90s", "lost = 0"))
        world.link("uplink").hold_down = broken  # type: ignore[assignment]
        await world.start()
        await eventually(lambda: bool(world.failures))
        world.finish()
        return world.failures

    (failure,) = run(name, main)
    assert "planted" in failure
