"""Box and data center recover from restarts, disks that lie about flushes, DNS failures and changed addresses."""

from __future__ import annotations

import asyncio
import socket
from random import Random
from typing import Any

import pytest

from hal.emul.disk import EmulDisk
from sim.net.loop import SimLoop
from sim.net.names import GIVE_UP_SECONDS, UNUSED_ADDRESS, Names
from sim.verdict.result import Result
from sim.worlds.virtual.world import VirtualWorld
from tests.support.sim.fault_labs import HTTP, combined_lab, event, program_errors

SOCKS = 'proxy = { kind = "socks5", auth = "password" }'
MINUTE_NS = 60 * 10**9
UPLINK_CUT = event("link-down", 360, 30)


def run_world(events: str, proxy: str = "", duration: str = "30min") -> Result:
    with VirtualWorld(combined_lab(events, duration=duration, proxy=proxy)) as world:
        return world.run()


def unstored(result: Result) -> int:
    return result.reports.acknowledged - result.reports.stored


@pytest.mark.parametrize("proxy", ["", HTTP, SOCKS])
@pytest.mark.parametrize("lasts", [None, 600])
def test_reports_are_stored_once_although_the_data_center_is_killed(proxy: str, lasts: int | None) -> None:
    events = event("datacenter-restarts", 300, lasts) + event("datacenter-restarts", 301, lasts)
    result = run_world(events, proxy)
    assert program_errors(result) == 0 and result.reports.lost == result.reports.duplicates == 0
    assert unstored(result) <= 6


def test_a_batch_that_a_killed_data_center_was_processing_is_sent_again() -> None:
    events = event("datacenter-slow", 240, 120, 'delay = "15s"') + event("datacenter-restarts", 290)
    with VirtualWorld(combined_lab(events, proxy="")) as world:
        world.run_until(289 * 10**9)
        waiting, stored = sum(run_coroutine(world, world.backlog()) or ()), world.datacenter.stored
        assert waiting
        world.run_until(295 * 10**9)
        assert world.datacenter.stored == stored
        result = world.run()
    assert program_errors(result) == 0 and result.reports.lost == result.reports.duplicates == 0
    assert unstored(result) <= 6


def run_coroutine(world: VirtualWorld, coroutine: Any) -> Any:
    return world.loop.run_until_complete(coroutine)


def test_the_box_reconnects_when_the_data_center_is_up_again() -> None:
    with VirtualWorld(combined_lab(event("datacenter-restarts", 60, 60), proxy="")) as world:
        world.run_until(30 * 10**9)
        assert world.box.is_connected
        world.run_until(61 * 10**9)
        assert not world.box.is_connected
        world.run_until(4 * MINUTE_NS)
        assert world.box.is_connected


# -- a disk that reports flushes before the data is durable


def dishonest_disk(held_ns: int, now: list[int]) -> EmulDisk:
    disk = EmulDisk(1 << 20, Random(1), now_ns=lambda: now[0])
    disk.create("a", 64 * 512)
    disk.backend.set_latency(flush_ns=10)
    disk.backend.hold_flushed(held_ns)
    return disk


def lost_sectors(disk: EmulDisk) -> int:
    after = disk.backend.cut_power()
    return sum(after.read("a", at, 1) != b"n" for at in range(0, 64 * 512, 512))


@pytest.mark.parametrize(("cut_at", "durable"), [(11, False), (1009, False), (1010, True), (5000, True)])
def test_data_flushed_to_a_dishonest_disk_is_durable_after_the_delay(cut_at: int, durable: bool) -> None:
    now = [0]
    disk = dishonest_disk(1000, now)
    disk.write("a", 0, b"n" * 64 * 512)
    disk.flush("a")
    now[0] = cut_at
    assert (lost_sectors(disk) == 0) == durable


def test_an_honest_flush_makes_earlier_data_durable() -> None:
    now = [0]
    disk = dishonest_disk(10**9, now)
    disk.create("b", 512)
    disk.write("a", 0, b"n" * 64 * 512)
    disk.flush("a")
    disk.backend.hold_flushed(0)
    now[0] = 20
    disk.write("b", 0, b"1")
    disk.flush("b")
    now[0] = 40
    assert lost_sectors(disk) == 0


def test_a_write_back_saves_all_data_but_that_of_the_flush_in_progress() -> None:
    now = [0]
    disk = dishonest_disk(10**9, now)
    disk.write("a", 0, b"n" * 64 * 512)
    disk.flush("a")
    now[0] = 20
    disk.backend.write_back()
    assert lost_sectors(disk) == 0
    disk = dishonest_disk(10**9, now)
    disk.write("a", 0, b"n" * 64 * 512)
    disk.flush("a")
    disk.backend.write_back()
    assert lost_sectors(disk) > 0


def test_a_dishonest_disk_loses_no_report_without_a_power_cut() -> None:
    result = run_world(event("disk-lies", 60, 1200, 'holds = "1h"') + UPLINK_CUT)
    assert program_errors(result) == 0 and result.reports.lost == 0 and unstored(result) <= 6


@pytest.mark.parametrize("seed", range(6))
def test_a_power_cut_of_a_dishonest_disk_loses_only_the_reports_of_its_delay(seed: int) -> None:
    cut_s, held_s = 900, 60
    events = (
        event("link-down", 600, 600)
        + event("disk-lies", 60, 1500, f'holds = "{held_s}s"')
        + event("power-cut", cut_s, 30)
    )
    with VirtualWorld(combined_lab(events, proxy="", duration="1h", seed=seed)) as world:
        result = world.run()
        lost = [e for e in world.ledger if e.acknowledged_ns >= 0 and e.stored_ns < 0 and e.sequence < 0]
    assert program_errors(result) == 0 and result.reports.duplicates == 0
    assert all((cut_s - held_s - 1) * 10**9 <= entry.acknowledged_ns <= cut_s * 10**9 for entry in lost)
    later = [e for e in world.ledger if (cut_s + 60) * 10**9 < e.made_ns < 3400 * 10**9]
    assert len(later) > 300 and all(entry.stored_ns >= 0 for entry in later)


# -- names and addresses


@pytest.mark.parametrize("kind", ["dns-silent", "dns-wrong", "dns-slow"])
@pytest.mark.parametrize("proxy", ["", HTTP, SOCKS])
def test_a_dns_failure_affects_new_connections_only(kind: str, proxy: str) -> None:
    parameters = 'delay = "20s"' if kind == "dns-slow" else ""
    with VirtualWorld(combined_lab(event(kind, 300, 600, parameters) + UPLINK_CUT, proxy=proxy)) as world:
        world.run_until(359 * 10**9)
        assert world.box.is_connected
        world.run_until(14 * MINUTE_NS)
        assert not world.box.is_connected
        world.run_until(20 * MINUTE_NS)
        assert world.box.is_connected
        result = world.run()
    assert program_errors(result) == 0 and result.reports.lost == 0 and unstored(result) <= 6


def test_a_slow_dns_server_does_not_prevent_connections() -> None:
    with VirtualWorld(
        combined_lab(event("dns-slow", 300, 600, 'delay = "8s"') + UPLINK_CUT, proxy="")
    ) as world:
        world.run_until(7 * MINUTE_NS)
        assert world.box.is_connected


def test_a_resolver_gets_the_answers_delays_and_errors_of_the_faults() -> None:
    loop = SimLoop()

    def resolve(name: str) -> tuple[str | int, float]:
        before = loop.time()
        try:
            answer: str | int = loop.run_until_complete(names.resolve(name))
        except socket.gaierror as error:
            answer = error.args[0]
        return answer, round(loop.time() - before, 3)

    names = Names()
    assert resolve("datacenter") == ("datacenter", 0)
    end_two, end_three = names.delay(2 * 10**9), names.delay(3 * 10**9)
    assert resolve("datacenter") == ("datacenter", 5)
    end_wrong = names.answer_wrongly()
    end_two()
    assert resolve("datacenter") == (UNUSED_ADDRESS, 3)
    end_silence = names.stop_answering()
    assert resolve("datacenter") == (socket.EAI_AGAIN, GIVE_UP_SECONDS)
    assert resolve("198.51.100.2") == ("198.51.100.2", 0)
    for end in (end_three, end_wrong, end_silence):
        end()
    assert resolve("datacenter") == ("datacenter", 0) and names.is_healthy


@pytest.mark.parametrize("target", ["uplink", "datacenter"])
@pytest.mark.parametrize("proxy", ["", HTTP, SOCKS])
def test_the_box_delivers_within_four_minutes_of_an_address_change(target: str, proxy: str) -> None:
    once = '[[event]]\nat = "{}"\nfault = "address-changes"\ntarget = "{}"\n'
    events = once.format("300s", target) + once.format("900s", target)
    with VirtualWorld(combined_lab(events, proxy=proxy)) as world:
        world.run_until(299 * 10**9)
        stored = world.datacenter.stored
        for minute in (9, 19):  # four minutes after each change
            world.run_until(minute * MINUTE_NS)
            waiting = sum(run_coroutine(world, world.backlog()) or ())
            assert world.datacenter.stored > stored + 30 and waiting <= 12, (minute, waiting)
            stored = world.datacenter.stored
        result = world.run()
    assert program_errors(result) == 0 and result.reports.lost == result.reports.duplicates == 0


def test_a_connection_with_an_old_address_carries_nothing_and_is_not_closed() -> None:
    with VirtualWorld(combined_lab("", proxy="")) as world:
        world.run_until(MINUTE_NS)
        run_coroutine(world, world.change_address("uplink"))
        before = (world.box.is_connected, world.datacenter.stored)
        assert before[0]
        world.run_until(MINUTE_NS + 5 * 10**9)
        assert (world.box.is_connected, world.datacenter.stored) == before


def test_the_connecting_host_resolves_the_name() -> None:
    async def dial(world: VirtualWorld) -> None:
        await asyncio.get_running_loop().create_connection(asyncio.Protocol, "datacenter", 443)

    with VirtualWorld(combined_lab("", proxy="")) as world:
        world.run_until(MINUTE_NS)
        world.names.stop_answering()
        incarnation = world.box.host.incarnation
        assert incarnation is not None
        with pytest.raises(socket.gaierror):
            world.loop.run_until_complete(incarnation.run(world.loop, dial(world)))
