"""Faults can overlap in any order: the end of each reverts its own effect, and after the last the lab is nominal."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from functools import cache, partial
from random import Random
from typing import Any

import pytest

from settings.problems import SettingsError
from sim.engine.layers import End, layers_of
from sim.lab.labfile import Lab
from sim.net.host import Incarnation
from sim.net.link import Impairment, Link, LinkQuality, impaired
from sim.net.loop import SimLoop
from sim.proxies.relay import Behavior, DelayQueue
from sim.testing import LabUnderTest
from sim.worlds import run_lab
from sim.worlds.virtual.world import VirtualWorld
from tests.support.sim import fault_labs
from tests.support.sim.fault_labs import (
    MOMENTARY,
    PARAMETERS,
    REPORT_FAULTS,
    event,
    program_errors,
    target_of,
)
from tests.support.sim.network import Pair

combined_lab = partial(fault_labs.combined_lab, report_every="20s")
LASTING = [kind for kind in REPORT_FAULTS if kind not in (*MOMENTARY, "disk-torn")]


def state(world: VirtualWorld) -> dict[str, Any]:
    """Return all state of a world that a fault can change while it lasts."""
    datacenter, proxy, box = world.datacenter, world.proxy, world.box
    assert proxy is not None
    behavior, disk = proxy.behavior, box.disk
    links = {name: world.link(name) for name in ("uplink", "backbone", "instrument:1", "instrument:2")}
    return {
        **{name: (link.up, link.forward.quality, link.backward.quality) for name, link in links.items()},
        "box": (box.host.incarnation is not None, layers_of(box)),
        "disk": (disk.flush_ns, disk.held_ns, disk.backend.is_read_only),
        "disk space": disk.backend.used_bytes + disk.backend.free_bytes() == box.disk_bytes,
        "proxy": (behavior.refuses, behavior.half_open, behavior.idle_s_max, behavior.delay_s),
        "inspects": behavior.inspector is not None,
        "data center": (datacenter.presented, layers_of(datacenter)),
        "names": (world.names.is_healthy, layers_of(world.names)),
        **{
            f"analyzer {port}": (analyzer.is_on, len(analyzer.programs), len(analyzer.model.floods))
            for port, analyzer in world.analyzers.items()
        },
        "intruders": list(world.intruders.running),
    }


def start(lab: LabUnderTest, kind: str) -> Callable[[], None]:
    parameters = dict(line.replace('"', "").split(" = ") for line in PARAMETERS.get(kind, "").splitlines())
    return lab.start_fault(
        kind, target_of(kind), **{k: int(v) if v.isdecimal() else v for k, v in parameters.items()}
    )


@pytest.fixture
def lab() -> Iterator[LabUnderTest]:
    running = LabUnderTest(combined_lab())
    yield running
    running.close()


@pytest.mark.parametrize("kind", LASTING)
def test_two_faults_can_overlap_and_end_in_any_order(kind: str, lab: LabUnderTest) -> None:
    """Each pair of kinds is tested once, with the kind that comes first in `LASTING`."""
    lab.run_for("5s")
    nominal = state(lab.world)
    alone: dict[str, dict[str, Any]] = {}
    for other in LASTING[LASTING.index(kind) :]:
        for single in (kind, other):
            end_single = start(lab, single)
            alone[single] = state(lab.world)
            assert alone[single] != nominal, f"the test does not see the effect of {single}"
            end_single()
            assert state(lab.world) == nominal
        for first_in, first_out in ((kind, kind), (kind, other), (other, kind), (other, other)):
            second_in = other if first_in == kind else kind
            ends = {"first": start(lab, first_in), "second": start(lab, second_in)}
            early, late = ("first", "second") if first_out == first_in else ("second", "first")
            ends[early]()
            remaining = second_in if early == "first" else first_in
            assert state(lab.world) == alone[remaining], f"the end of {first_out} changed {remaining}"
            ends[late]()
            ends[early]()  # a second call has no effect
            assert state(lab.world) == nominal, f"after {first_in} and {second_in}"
    assert lab.world.failures == []


@pytest.mark.parametrize("kind", REPORT_FAULTS)
def test_two_faults_of_one_kind_can_begin_with_the_lab(kind: str) -> None:
    twice = event(kind, 0, None if kind in MOMENTARY else 120) + event(
        kind, 0, None if kind in MOMENTARY else 30
    )
    assert_no_errors_and_nominal(combined_lab(twice, duration="10min"))


@pytest.mark.parametrize("kind", REPORT_FAULTS)
def test_a_fault_can_outlast_the_lab_or_end_with_it(kind: str) -> None:
    lasts = None if kind in MOMENTARY else 120
    result = run_lab(combined_lab(event(kind, 60) + event(kind, 240, lasts), duration="6min"))
    assert program_errors(result) == 0, result.failures
    assert result.reports.lost == 0


@pytest.mark.parametrize("kind", REPORT_FAULTS)
def test_a_fault_can_occur_while_its_target_has_no_power(kind: str) -> None:
    off = event("power-cut", 60, 300) + event("instrument-unplugged", 60, 300)
    others = event(kind, 120, None if kind in MOMENTARY else 60) + event(
        kind, 180, None if kind in MOMENTARY else 360
    )
    assert_no_errors_and_nominal(combined_lab(off + others, duration="15min"))


@pytest.mark.parametrize("seed", range(30))
def test_the_lab_is_nominal_after_several_faults(seed: int) -> None:
    random = Random(seed)
    events = ""
    for kind in random.choices(REPORT_FAULTS, k=random.randint(2, 4)):
        at = random.choice([0, 60, 60, random.randrange(400)])
        events += event(
            kind, at, None if kind in MOMENTARY else random.choice([1, 60, 240, random.randrange(1, 400)])
        )
    assert_no_errors_and_nominal(combined_lab(events, seed=seed, duration="16min"))


@cache
def nominal_state() -> dict[str, Any]:
    faultless = LabUnderTest(combined_lab())
    try:
        return state(faultless.world)
    finally:
        faultless.close()


def assert_no_errors_and_nominal(lab: Lab) -> None:
    with VirtualWorld(lab) as world:
        world.run_until(1)  # the events at 0 s have begun
        world.run_until(lab.about.duration)
        assert state(world) == nominal_state()
        result = world.finish()
    assert program_errors(result) == 0, result.failures
    assert result.reports.duplicates == 0, result.failures
    if not any(event.fault.kind == "disk-lies" for event in lab.events):  # which loses acknowledged reports
        assert result.reports.lost == 0, result.failures


# -- power


def test_power_returns_when_both_faults_that_cut_it_have_ended(lab: LabUnderTest) -> None:
    def on() -> bool:
        return lab.world.box.host.incarnation is not None

    lab.run_for("1min")
    torn = lab.disk.inject("disk-torn", operation=1)
    cut = lab.box.inject("power-cut")
    cut()
    assert not on()
    lab.box.cut_power()
    torn()
    assert not on()
    lab.box.restore_power()
    assert on()


def test_the_power_stays_off_until_the_last_fault_ends() -> None:
    events = event("disk-torn", 600, 5400, "operation = 1") + event("power-cut", 1200, 60)
    with VirtualWorld(combined_lab(events, duration="2h")) as world:
        for minute in (11, 21, 22, 60, 99):
            world.run_until(minute * 60 * 10**9)
            assert world.box.host.incarnation is None, minute
        world.run_until(101 * 60 * 10**9)
        assert world.box.host.incarnation is not None


def test_disk_operations_before_and_after_a_power_cut_count_towards_the_torn_operation() -> None:
    events = event("disk-torn", 300, 60, "operation = 60") + event("power-cut", 330, 10)
    with VirtualWorld(combined_lab(events)) as world:
        incarnations: list[Incarnation] = []
        for second in range(0, 1200, 5):
            world.run_until(second * 10**9)
            current = world.box.host.incarnation
            if current is not None and current not in incarnations:
                incarnations.append(current)
        assert [e.fault.kind for e in world.faults.injected] == ["disk-torn", "power-cut"]
        assert len(incarnations) == 3 and world.box.host.incarnation is not None


def test_a_torn_operation_that_never_happens_is_reported_after_an_hour_of_lab_time(lab: LabUnderTest) -> None:
    lab.box.cut_power()
    with pytest.raises(AssertionError, match="disk-torn did not happen within an hour of lab time"):
        lab.disk.inject("disk-torn", operation=1)
    assert lab.now < 4000
    lab.box.restore_power()
    lab.run_for("5min")
    assert lab.box.connected


def test_the_end_of_a_fault_after_the_verdict_has_no_effect(lab: LabUnderTest) -> None:
    lab.run_for("1min")
    end = lab.box.inject("power-cut")
    lab.result()
    end()
    assert lab.world.box.host.incarnation is None


# -- links

CLINIC = LinkQuality(rate_bits=128_000, delay_ns=40_000_000, loss=0.01, queue_bytes_max=65536)


def test_impairments_combine_by_lowest_rate_total_delay_and_joint_loss() -> None:
    both = impaired(
        CLINIC,
        [
            Impairment(rate_bits=9600, loss=0.5, delay_ns=5),
            Impairment(rate_bits=64_000, loss=0.5, delay_ns=7, jitter_ns=3),
        ],
    )
    assert (both.rate_bits, both.delay_ns, both.jitter_ns) == (9600, 40_000_012, 3)
    assert both.loss == pytest.approx(1 - 0.5 * 0.5 * 0.99)
    assert impaired(CLINIC, [Impairment(rate_bits=10**6)]).rate_bits == 10**6
    assert impaired(CLINIC, [Impairment(loss=1.0)]).loss == 1.0
    assert impaired(CLINIC, []) == CLINIC


def link(quality: LinkQuality = CLINIC) -> tuple[Pair, Link]:
    pair = Pair(LinkQuality(quality.rate_bits, quality.delay_ns, queue_bytes_max=quality.queue_bytes_max))
    return pair, pair.link


def arrivals(pair: Pair, lengths: list[int]) -> list[tuple[int, int]]:
    """Send packets of these lengths now; the returned list grows by (index, time in ns) when a packet arrives."""
    seen: list[tuple[int, int]] = []
    for n, length in enumerate(lengths):
        pair.link.forward.send(length, n, lambda n: seen.append((n, pair.loop.env.now)))  # type: ignore[arg-type]
    return seen


def test_packets_sent_after_a_delay_has_ended_overtake_delayed_ones() -> None:
    pair, line = link()
    end = line.impair(Impairment(delay_ns=600 * 10**9))
    old = arrivals(pair, [1600])
    pair.loop.run_for(10**9)
    end()
    new = arrivals(pair, [1600])
    pair.loop.run_for(10**9)
    assert new == [(0, 10**9 + 100_000_000 + 40_000_000)] and old == []
    pair.loop.run_for(700 * 10**9)
    assert old == [(0, 600 * 10**9 + 140_000_000)]


def test_packets_sent_after_a_cut_do_not_wait_for_lost_ones() -> None:
    pair, line = link()
    slow = line.impair(Impairment(rate_bits=1000, delay_ns=600 * 10**9))
    arrivals(pair, [1500] * 5)
    line.cut()
    slow()
    line.mend()
    new = arrivals(pair, [1600])
    pair.loop.run_for(10**9)
    assert new == [(0, 140_000_000)]
    assert line.forward.busy_ns == 100_000_000


def test_queued_packets_are_sent_at_the_rate_to_which_a_slow_link_is_restored() -> None:
    pair, line = link()
    slow = line.impair(Impairment(rate_bits=1000))  # a packet takes 12.8 s
    seen = arrivals(pair, [1600] * 4)
    pair.loop.run_for(10**9)
    slow()
    new = arrivals(pair, [1600])
    pair.loop.run_for(60 * 10**9)
    rest = 10**9 + 11_800_000_000 // 128  # the end of the packet that was being sent
    assert seen == [
        *((n, rest + n * 100_000_000 + 40_000_000) for n in (1, 2, 3)),
        (0, 12_840_000_000),  # already sent, with the delay of the slow link
    ]
    assert new == [(0, rest + 440_000_000)]
    assert line.forward.busy_ns == rest + 400_000_000 and line.forward.packets == 5


def test_queued_packets_are_sent_at_the_rate_to_which_the_link_is_degraded() -> None:
    pair, line = link()
    seen = arrivals(pair, [1600] * 3)
    line.impair(Impairment(rate_bits=12_800))
    pair.loop.run_for(60 * 10**9)
    assert seen == [(0, 140_000_000), (1, 2_040_000_000), (2, 3_040_000_000)]


def test_each_packet_is_delivered_once_while_the_link_quality_changes() -> None:
    pair, line = link()
    random = Random(3)
    seen = arrivals(pair, [random.randrange(40, 1500) for _ in range(40)])
    ends: list[End] = []
    for _ in range(200):
        pair.loop.run_for(random.randrange(10**8))
        if ends and random.random() < 0.5:
            ends.pop(random.randrange(len(ends)))()
        else:
            ends.append(
                line.impair(
                    Impairment(rate_bits=random.randrange(9600, 256_000), delay_ns=random.randrange(10**9))
                )
            )
    pair.loop.run_for(600 * 10**9)
    assert sorted(n for n, _ in seen) == list(range(40))
    assert line.forward.lost == 0


def test_a_manual_setting_and_a_fault_are_independent() -> None:
    _, line = link()
    storm = line.impair(Impairment(loss=0.2))
    line.set_quality(rate_bits=64_000)
    assert (line.forward.quality.rate_bits, line.backward.quality.loss) == (64_000, 0.2)
    line.restore()
    assert (line.forward.quality.rate_bits, line.forward.quality.loss) == (128_000, 0.2)
    down = line.hold_down()
    line.cut()
    line.mend()
    assert not line.up
    down()
    assert line.up
    storm()
    assert line.forward.quality == line.nominal


# -- proxies


class RecordingTarget:
    """A transport for a proxy that records (time in s, data) of each write."""

    def __init__(self, loop: SimLoop) -> None:
        self._loop = loop
        self.written: list[tuple[float, bytes]] = []

    def write(self, data: bytes) -> None:
        self.written.append((self._loop.time(), data))


def test_a_proxy_forwards_delayed_data_in_order_when_its_delay_ends() -> None:
    loop, behavior = SimLoop(), Behavior(delay_s=600.0)
    target = RecordingTarget(loop)

    async def program() -> None:
        queue = DelayQueue(behavior)
        queue.carry(target, b"1")  # type: ignore[arg-type]
        await asyncio.sleep(1)
        behavior.delay_s = 5.0
        queue.release()
        queue.carry(target, b"2")  # type: ignore[arg-type]
        await asyncio.sleep(2)
        queue.carry(target, b"3")  # type: ignore[arg-type]
        await asyncio.sleep(2)
        assert target.written == [(5.0, b"1")] or not target.written
        behavior.delay_s = 0.0
        queue.release()
        queue.carry(target, b"4")  # type: ignore[arg-type]

    loop.run_until_complete(program())
    assert target.written == [(5.0, b"1"), (5.0, b"2"), (5.0, b"3"), (5.0, b"4")]


# -- parameters in lab files


def test_statuses_from_400_to_599_can_be_simulated() -> None:
    for status in (400, 413, 418, 499, 520, 599):
        result = run_lab(
            combined_lab(event("datacenter-errors", 60, 600, f"status = {status}"), duration="20min")
        )
        assert program_errors(result) == 0, (status, result.failures)
        assert result.reports.lost == 0 and result.reports.stored > 100
    for status in (399, 600):
        with pytest.raises(SettingsError, match="from 400 to 599"):
            combined_lab(event("datacenter-errors", 60, 600, f"status = {status}"))


@pytest.mark.parametrize("parameters", ["sectors = 2000\nbits = 4096", "sectors = 1", "bits = 4096"])
def test_damaged_sectors_never_cause_a_program_error(parameters: str) -> None:
    for at in (0, 1, 300):
        result = run_lab(combined_lab(event("disk-rot", at, None, parameters), duration="10min"))
        assert program_errors(result) == 0, result.failures
