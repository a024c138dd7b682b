"""In the kernel world, too, faults can overlap in any order, and the end of each reverts its own effect."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from sim.faults import fault_kinds
from sim.lab.labfile import Lab, ScheduledFault, parse_lab
from sim.worlds.kernel import KernelLab
from sim.worlds.kernel.box import KernelBox
from sim.worlds.kernel.supervision.supervisor import run
from sim.worlds.kernel.world import KernelWorld
from sim.worlds.shared.fault_runner import ActiveFault
from tests.support.eventually import eventually
from tests.support.sim.kernel_labs import small_lab

pytestmark = pytest.mark.kernel

PARAMETERS: dict[str, dict[str, Any]] = {
    "link-degraded": {"loss": 0.5, "delay": 10_000_000},
    "link-rate": {"rate": 64_000},
    "mtu-black-hole": {"bytes": 1300},
    "proxy-kills-idle": {"after": 3_000_000_000},
    "proxy-slow": {"delay": 100_000_000},
}
PROXIES = {
    "": "",
    "http": 'proxy = { kind = "http", auth = "basic" }',
    "socks5": 'proxy = { kind = "socks5", auth = "password" }',
}
MOMENTARY = ("program-killed", "address-changes")
KINDS = [kind for kind, fault in fault_kinds().items() if not fault.emulated and kind not in MOMENTARY]


def lab(kind: str) -> Lab:
    return parse_lab(small_lab("layers", "200ms", proxy=PROXIES[kind]), Path("layers.toml"))


async def start(world: KernelWorld, kind: str) -> ActiveFault:
    fault = fault_kinds()[kind]
    target = "instrument:1" if fault.targets[0] == "instrument" else fault.targets[0]
    event = ScheduledFault(world.env.now, fault(**PARAMETERS.get(kind, {})), target, None)
    return await world.faults.inject(event)


def state(world: KernelWorld) -> dict[str, Any]:
    proxy, datacenter, box = world.proxy, world.datacenter, world.box
    assert proxy is not None and proxy.process is not None
    assert isinstance(box, KernelBox)
    return {
        **{name: (link.up, link.forward.quality) for name, link in world.namespaces.links.items()},
        "box": box.is_on,
        "disk": (box.disk.folder / "something-else").exists(),
        "site proxy": (proxy.settings, proxy.process.returncode, stopped(proxy.process.pid)),
        "datacenter": datacenter.presented,
        "names": Path("/etc/hosts").read_text(),
        "instrument": (world.analyzers[1].is_on, len(world.analyzers[1].programs)),
        "floods": len(world.analyzers[1].model.floods),
        "intruders": list(world.intruders.running),
    }


def stopped(pid: int) -> bool:
    """Return whether a process is stopped by a signal; False if it has ended, as a proxy does when names change."""
    try:
        return "T" in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False


async def returns_to(world: KernelWorld, expected: dict[str, Any]) -> None:
    with suppress(TimeoutError):
        await eventually(lambda: state(world) == expected)
    assert state(world) == expected


async def all_overlap(world: KernelWorld) -> None:
    await world.start()
    nominal = state(world)
    for order in (1, -1):
        started = [await start(world, kind) for kind in KINDS for _ in range(2)]
        middle = state(world)
        for part in (
            "uplink",
            "backbone",
            "box",
            "site proxy",
            "datacenter",
            "instrument",
            "floods",
            "intruders",
        ):
            assert middle[part] != nominal[part], part
        for occurrence in started[::order]:
            await world.faults.end(occurrence)
        await returns_to(world, nominal)


async def each_pair_that_shares_a_part(world: KernelWorld) -> None:
    """Test one order of each pair; tests/sim/faults/test_faults_compose.py tests all orders in the virtual world."""
    await world.start()
    nominal = state(world)
    for target in ("uplink", "proxy", "datacenter", "disk", "dns", "box"):
        kinds = [kind for kind in KINDS if fault_kinds()[kind].targets[0] == target]
        for index, one in enumerate(kinds):
            alone = await start(world, one)
            state_alone = state(world)
            for other in kinds[index:]:
                second = await start(world, other)
                await world.faults.end(second)
                await returns_to(world, state_alone)
            await world.faults.end(alone)
            await returns_to(world, nominal)
    at_once = [
        start(world, kind) for kind in KINDS if fault_kinds()[kind].targets[0] in ("proxy", "datacenter")
    ]
    started = await asyncio.gather(*at_once)
    await asyncio.gather(*(world.faults.end(occurrence) for occurrence in started))
    await returns_to(world, nominal)


async def addresses_change(world: KernelWorld) -> None:
    await world.start()
    await delivers_again(world)
    for target in ("uplink", "datacenter", "uplink", "datacenter")[: 2 if world.proxy else 4]:
        await world.change_address(target)
        await delivers_again(world, records=20)  # more than the records that were in transit at the change


async def names_fail(world: KernelWorld) -> None:
    await world.start()
    for kind in ("dns-silent", "dns-wrong"):
        await delivers_again(world)
        fault = await start(world, kind)
        await delivers_again(world)
        await world.box.kill()
        await eventually(lambda: is_stopped(world), every_s=0.05)
        await eventually(lambda: has_backlog(world), every_s=0.05)
        status = await world.box.status()
        assert status is not None and not status.connected
        await world.faults.end(fault)


async def is_stopped(world: KernelWorld) -> bool:
    return await world.box.status() is None


async def has_backlog(world: KernelWorld) -> bool:
    status = await world.box.status()
    return status is not None and status.backlog.routine > 0


async def delivers_again(world: KernelWorld, records: int = 1) -> None:
    """Wait until `records` more records are stored."""
    expected = world.datacenter.stored + records
    await eventually(lambda: world.datacenter.stored >= expected, every_s=0.05)


@pytest.mark.parametrize(
    ("kind", "play"),
    [
        ("http", all_overlap),
        ("socks5", all_overlap),
        ("http", each_pair_that_shares_a_part),
        ("", addresses_change),
        ("http", addresses_change),
        ("socks5", addresses_change),
        ("", names_fail),
        ("http", names_fail),
    ],
)
@pytest.mark.slow("timeouts of TCP and of the box, in real time")
def test_the_end_of_each_fault_reverts_its_own_effect(name: str, kind: str, play: Any) -> None:
    async def main(namespaces: KernelLab) -> tuple[int, list[str]]:
        namespaces.deadline.within(900, "the test")
        world = KernelWorld(namespaces, lab(kind))
        await play(world)
        await delivers_again(world)
        result = world.finish()
        return result.reports.lost, world.failures

    assert run(name, main) == (0, [])
