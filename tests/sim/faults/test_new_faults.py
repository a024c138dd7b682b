"""Restarts of the data center, disks that lie, name services, addresses: what they do, and that the box recovers."""

from __future__ import annotations

import asyncio
import socket
from random import Random
from typing import Any

import pytest

from hal.emul.disk import EmulDisk
from sim.net.loop import SimLoop
from sim.net.names import GIVE_UP_SECONDS, NOBODY
from sim.verdict.result import Result
from sim.worlds.virtual.world import VirtualWorld
from tests.sim.faults.test_faults_compose import HTTP, errors, event, make_lab

SOCKS = 'proxy = { kind = "socks5", auth = "password" }'
MINUTE_NS = 60 * 10**9
UPLINK_CUT = event("link-down", 360, 30)


def play(events: str, proxy: str = "", duration: str = "30min") -> Result:
    with VirtualWorld(make_lab(events, duration=duration, proxy=proxy)) as world:
        return world.run()


def unsent(result: Result) -> int:
    return result.reports.acknowledged - result.reports.stored


@pytest.mark.parametrize("proxy", ["", HTTP, SOCKS])
@pytest.mark.parametrize("lasts", [None, 600])
def test_reports_of_a_data_center_that_was_killed_are_stored_once(proxy: str, lasts: int | None) -> None:
    events = event("datacenter-restarts", 300, lasts) + event("datacenter-restarts", 301, lasts)
    result = play(events, proxy)
    assert errors(result) == 0 and result.reports.lost == result.reports.duplicates == 0
    assert unsent(result) <= 6


def test_a_batch_that_a_data_center_was_looking_at_is_lost_with_it_and_sent_again() -> None:
    events = event("datacenter-slow", 240, 120, 'delay = "15s"') + event("datacenter-restarts", 290)
    with VirtualWorld(make_lab(events, proxy="")) as world:
        world.run_until(289 * 10**9)
        waiting, stored = sum(asyncio_run(world, world.backlog()) or ()), world.datacenter.stored
        assert waiting
        world.run_until(295 * 10**9)
        assert world.datacenter.stored == stored
        result = world.run()
    assert errors(result) == 0 and result.reports.lost == result.reports.duplicates == 0
    assert unsent(result) <= 6


def asyncio_run(world: VirtualWorld, coroutine: Any) -> Any:
    return world.loop.run_until_complete(coroutine)


def test_a_data_center_that_is_down_refuses_connections() -> None:
    with VirtualWorld(make_lab(event("datacenter-restarts", 60, 60), proxy="")) as world:
        world.run_until(30 * 10**9)
        assert world.box.is_connected
        world.run_until(61 * 10**9)
        assert not world.box.is_connected
        world.run_until(4 * MINUTE_NS)
        assert world.box.is_connected


# -- a disk that lies


def lying(held_ns: int, now: list[int]) -> EmulDisk:
    disk = EmulDisk(1 << 20, Random(1), now_ns=lambda: now[0])
    disk.create("a", 64 * 512)
    disk.backend.set_latency(flush_ns=10)
    disk.backend.hold_flushed(held_ns)
    return disk


def lost_sectors(disk: EmulDisk) -> int:
    after = disk.backend.cut_power()
    return sum(after.read("a", at, 1) != b"n" for at in range(0, 64 * 512, 512))


@pytest.mark.parametrize(("cut_at", "all_there"), [(11, False), (1009, False), (1010, True), (5000, True)])
def test_what_a_lying_disk_has_flushed_is_durable_when_it_has_had_its_time(
    cut_at: int, all_there: bool
) -> None:
    now = [0]
    disk = lying(1000, now)
    disk.write("a", 0, b"n" * 64 * 512)
    disk.flush("a")
    now[0] = cut_at
    assert (lost_sectors(disk) == 0) == all_there


def test_an_honest_flush_makes_durable_what_was_held_back() -> None:
    now = [0]
    disk = lying(10**9, now)
    disk.create("b", 512)
    disk.write("a", 0, b"n" * 64 * 512)
    disk.flush("a")
    disk.backend.hold_flushed(0)
    now[0] = 20
    disk.write("b", 0, b"1")
    disk.flush("b")
    now[0] = 40
    assert lost_sectors(disk) == 0


def test_a_disk_that_is_given_the_time_loses_only_what_is_being_flushed() -> None:
    now = [0]
    disk = lying(10**9, now)
    disk.write("a", 0, b"n" * 64 * 512)
    disk.flush("a")
    now[0] = 20
    disk.backend.write_back()
    assert lost_sectors(disk) == 0
    disk = lying(10**9, now)
    disk.write("a", 0, b"n" * 64 * 512)
    disk.flush("a")
    disk.backend.write_back()
    assert lost_sectors(disk) > 0


def test_a_lie_costs_nothing_without_a_power_cut() -> None:
    result = play(event("disk-lies", 60, 1200, 'holds = "1h"') + UPLINK_CUT)
    assert errors(result) == 0 and result.reports.lost == 0 and unsent(result) <= 6


@pytest.mark.parametrize("seed", range(6))
def test_a_power_cut_of_a_lying_disk_loses_at_most_what_it_held_and_the_box_goes_on(seed: int) -> None:
    cut_s, held_s = 900, 60
    events = (
        event("link-down", 600, 600)
        + event("disk-lies", 60, 1500, f'holds = "{held_s}s"')
        + event("power-cut", cut_s, 30)
    )
    with VirtualWorld(make_lab(events, proxy="", duration="1h", seed=seed)) as world:
        result = world.run()
        lost = [e for e in world.ledger if e.acknowledged_ns >= 0 and e.stored_ns < 0 and e.sequence < 0]
    assert errors(result) == 0 and result.reports.duplicates == 0
    assert all((cut_s - held_s - 1) * 10**9 <= entry.acknowledged_ns <= cut_s * 10**9 for entry in lost)
    later = [e for e in world.ledger if (cut_s + 60) * 10**9 < e.made_ns < 3400 * 10**9]
    assert len(later) > 300 and all(entry.stored_ns >= 0 for entry in later)


# -- names and addresses


@pytest.mark.parametrize("kind", ["dns-silent", "dns-wrong", "dns-slow"])
@pytest.mark.parametrize("proxy", ["", HTTP, SOCKS])
def test_a_name_service_matters_to_new_connections_only(kind: str, proxy: str) -> None:
    parameters = 'delay = "20s"' if kind == "dns-slow" else ""
    with VirtualWorld(make_lab(event(kind, 300, 600, parameters) + UPLINK_CUT, proxy=proxy)) as world:
        world.run_until(359 * 10**9)
        assert world.box.is_connected
        world.run_until(14 * MINUTE_NS)
        assert not world.box.is_connected
        world.run_until(20 * MINUTE_NS)
        assert world.box.is_connected
        result = world.run()
    assert errors(result) == 0 and result.reports.lost == 0 and unsent(result) <= 6


def test_a_slow_name_service_delays_the_connection() -> None:
    with VirtualWorld(make_lab(event("dns-slow", 300, 600, 'delay = "8s"') + UPLINK_CUT, proxy="")) as world:
        world.run_until(7 * MINUTE_NS)
        assert world.box.is_connected


def test_what_a_resolver_is_told() -> None:
    loop = SimLoop()

    def resolve(name: str) -> tuple[str | int, float]:
        before = loop.time()
        try:
            answer: str | int = loop.run_until_complete(names.resolve(name))
        except socket.gaierror as error:
            answer = error.args[0]
        return answer, round(loop.time() - before, 3)

    from sim.net.names import Names

    names = Names()
    assert resolve("datacenter") == ("datacenter", 0)
    two, three = names.delay(2 * 10**9), names.delay(3 * 10**9)
    assert resolve("datacenter") == ("datacenter", 5)
    lie = names.lie()
    two()
    assert resolve("datacenter") == (NOBODY, 3)
    silence = names.fall_silent()
    assert resolve("datacenter") == (socket.EAI_AGAIN, GIVE_UP_SECONDS)
    assert resolve("198.51.100.2") == ("198.51.100.2", 0)
    for end in (three, lie, silence):
        end()
    assert resolve("datacenter") == ("datacenter", 0) and names.is_healthy


@pytest.mark.parametrize("target", ["uplink", "datacenter"])
@pytest.mark.parametrize("proxy", ["", HTTP, SOCKS])
def test_the_box_finds_out_that_an_address_has_changed(target: str, proxy: str) -> None:
    once = '[[event]]\nat = "{}"\nfault = "address-changes"\ntarget = "{}"\n'
    events = once.format("300s", target) + once.format("900s", target)
    with VirtualWorld(make_lab(events, proxy=proxy)) as world:
        world.run_until(299 * 10**9)
        stored = world.datacenter.stored
        for minute in (9, 19):  # four minutes after each change
            world.run_until(minute * MINUTE_NS)
            waiting = sum(asyncio_run(world, world.backlog()) or ())
            assert world.datacenter.stored > stored + 30 and waiting <= 12, (minute, waiting)
            stored = world.datacenter.stored
        result = world.run()
    assert errors(result) == 0 and result.reports.lost == result.reports.duplicates == 0


def test_connections_with_an_old_address_are_dead_without_a_word() -> None:
    with VirtualWorld(make_lab("", proxy="")) as world:
        world.run_until(MINUTE_NS)
        asyncio_run(world, world.change_address("uplink"))
        assert world.box.is_connected
        stored = world.datacenter.stored
        world.run_until(MINUTE_NS + 5 * 10**9)
        assert world.box.is_connected and world.datacenter.stored == stored


def test_names_are_resolved_on_behalf_of_whoever_connects() -> None:
    async def dial(world: VirtualWorld) -> None:
        await asyncio.get_running_loop().create_connection(asyncio.Protocol, "datacenter", 443)

    with VirtualWorld(make_lab("", proxy="")) as world:
        world.run_until(MINUTE_NS)
        world.names.fall_silent()
        incarnation = world.box.host.incarnation
        assert incarnation is not None
        with pytest.raises(socket.gaierror):
            world.loop.run_until_complete(incarnation.run(world.loop, dial(world)))
