"""The intake of instruments without an agent: report numbers, repetitions, limits and interruptions."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import Awaitable, Callable
from functools import partial
from random import Random

import msgspec
import pytest

from agents.box.buffer import Buffer
from agents.box.commands import CommandDispatcher, CommandQueue
from agents.box.health.audit import AuditLog, encode_gap
from agents.box.intake.backlog import WAITING_BYTES_MAX
from agents.box.intake.high_water_marks import ADAPTED_DIGESTS_MAX
from agents.box.intake.intake import CLOCK_OFF_MS_MAX, Intake, Source
from agents.box.intake.limits import REPORTS_BURST
from agents.box.state import BoxState
from agents.spool import Priority, Spool, SpoolLimits
from hal.emul.clock import EmulClock
from hal.emul.disk import EmulDisk
from settings.profile import load_profile
from sim.net.loop import SimLoop
from wire.messages import Alert, Entry, InstrumentReport, Quality, Report, Status, decode
from wire.profiles import AllowList
from wire.standards.engine import Outcome
from wire.standards.extract import Extract, Finding, Reason

NOW_MS = 1_900_000_000_000
MIB = 1024 * 1024
SERIAL = "MODU-1"
RUNNING = Finding(Status, ("running", 0, {}), NOW_MS - 5000)
ALARM = Finding(Alert, ("P0201", "pipettor", "error"), NOW_MS - 5000)


class Port:
    """An intake with one instrument, on an emulated disk."""

    def __init__(self, disk: EmulDisk | None = None) -> None:
        self.disk = disk or EmulDisk(64 * MIB, Random(1))
        clock = EmulClock(lambda: NOW_MS * 1_000_000)
        self.state = BoxState()
        spool = Spool.open(
            self.disk,
            SpoolLimits(spool_bytes_max=32 * MIB),
            random=Random(2),
            encode_gap=partial(encode_gap, clock=clock),
            snapshot=self.state.snapshot,
        )
        self.state.restore(spool.recovery, {SERIAL}, frozenset({SERIAL}), {1: SERIAL})
        self.buffer = Buffer(spool)
        audit = AuditLog(self.buffer, clock)
        dispatcher = CommandDispatcher({"": CommandQueue(), SERIAL: CommandQueue()}, {}, audit)
        allowed = {SERIAL: AllowList(load_profile("modular-analyzer"))}
        self.intake = Intake(
            self.buffer, self.state, dispatcher, audit.note, {SERIAL: 1}, allowed, lambda: NOW_MS
        )
        self.source: Source = self.intake.sources[SERIAL]

    async def accept(self, *findings: Finding, counts: Counter[Reason] | None = None) -> Outcome:
        return await self.intake.accept(self.source, Extract(list(findings), counts or Counter()))

    async def reports(self) -> list[InstrumentReport]:
        records = [
            record for priority in Priority for record in await self.buffer.read(priority, 1 << 16, 1 << 24)
        ]
        bodies = [decode(Entry, payload).body for _, payload in sorted(records)]
        return [body for body in bodies if isinstance(body, Report)]


def run(scenario: Callable[[Port], Awaitable[None]]) -> None:
    async def main() -> None:
        await scenario(Port())

    SimLoop().run_until_complete(main())


def test_the_box_numbers_the_reports_of_all_priorities_together() -> None:
    async def scenario(port: Port) -> None:
        assert await port.accept(RUNNING, ALARM) is Outcome.STORED
        assert await port.accept(Finding(Quality, ("glu", 1, 250))) is Outcome.STORED
        assert [report.number for report in await port.reports()] == [1, 2, 3]

    run(scenario)


def test_an_instrument_that_runs_samples_forbids_a_restart_of_the_box_if_its_profile_says_so() -> None:
    async def scenario(port: Port) -> None:
        assert not port.intake.forbids_restart()
        assert await port.accept(RUNNING) is Outcome.STORED
        assert not port.intake.forbids_restart()
        profile = msgspec.structs.replace(port.source.allowed.profile, restart_while_running=False)
        port.source.allowed = AllowList(profile)
        assert port.intake.forbids_restart()
        assert await port.accept(Finding(Status, ("idle", 1, {}), NOW_MS)) is Outcome.STORED
        assert not port.intake.forbids_restart()
        running = Status(1, NOW_MS, "running", 1, {})  # as an agent reports it
        await port.intake.keep(port.source, 9, [(Priority.ROUTINE, running)])
        assert port.intake.forbids_restart()

    run(scenario)


def test_equal_reports_of_one_message_are_all_stored_and_all_recognized() -> None:
    async def scenario(port: Port) -> None:
        assert await port.accept(ALARM, ALARM) is Outcome.STORED
        assert await port.accept(ALARM, ALARM) is Outcome.STORED
        assert len(await port.reports()) == 2
        assert port.source.counts == {Reason.MESSAGE_REPEATED: 1}

    run(scenario)


def test_content_left_out_of_a_repeated_message_is_counted_once() -> None:
    async def scenario(port: Port) -> None:
        for _ in range(3):
            await port.accept(RUNNING, counts=Counter({Reason.TEST_UNKNOWN: 2}))
        assert port.source.counts == {Reason.TEST_UNKNOWN: 2, Reason.MESSAGE_REPEATED: 2}

    run(scenario)


@pytest.mark.parametrize(
    ("at_ms", "stored_ms"),
    [
        (None, NOW_MS),
        (NOW_MS - CLOCK_OFF_MS_MAX, NOW_MS - CLOCK_OFF_MS_MAX),
        (NOW_MS + CLOCK_OFF_MS_MAX, NOW_MS + CLOCK_OFF_MS_MAX),
        (NOW_MS - CLOCK_OFF_MS_MAX - 1, NOW_MS),
        (0, NOW_MS),
    ],
)
def test_a_time_more_than_a_day_from_the_clock_is_replaced(at_ms: int | None, stored_ms: int) -> None:
    async def scenario(port: Port) -> None:
        await port.accept(Finding(Status, ("idle", 0, {}), at_ms))
        assert [report.at_ms for report in await port.reports()] == [stored_ms]

    run(scenario)


def test_a_message_with_one_word_outside_the_profile_is_refused_as_a_whole() -> None:
    async def scenario(port: Port) -> None:
        assert await port.accept(RUNNING, Finding(Quality, ("miller", 1, 0))) is Outcome.REFUSED
        assert await port.reports() == []
        assert await port.accept(RUNNING) is Outcome.STORED

    run(scenario)


def test_a_flood_is_answered_busy_and_accepted_later() -> None:
    async def scenario(port: Port) -> None:
        stored, flood = 0, itertools.count()
        while await port.accept(*results(next(flood))) is Outcome.STORED:
            stored += ADAPTED_DIGESTS_MAX
        assert WAITING_BYTES_MAX / 64 < stored < REPORTS_BURST
        assert port.source.counts == {}
        await asyncio.sleep(60)
        assert await port.accept(*results(next(flood))) is Outcome.STORED

    def results(turn: int) -> list[Finding]:
        """Return the findings of a message of maximum size."""
        return [Finding(Quality, ("glu", 1, n), NOW_MS + turn) for n in range(ADAPTED_DIGESTS_MAX)]

    run(scenario)


def test_a_message_with_more_reports_than_can_be_recognized_is_refused() -> None:
    async def scenario(port: Port) -> None:
        results = [Finding(Quality, ("glu", 1, number), NOW_MS) for number in range(ADAPTED_DIGESTS_MAX + 1)]
        assert await port.accept(*results) is Outcome.REFUSED
        for _ in range(2):
            assert await port.accept(*results[1:]) is Outcome.STORED
        assert len(await port.reports()) == ADAPTED_DIGESTS_MAX

    run(scenario)


def test_a_power_cut_after_the_flush_leaves_a_repetition_recognizable() -> None:
    async def scenario(port: Port) -> None:
        await port.accept(RUNNING, ALARM)
        restarted = Port(port.disk.backend.cut_power())
        assert await restarted.accept(RUNNING, ALARM) is Outcome.STORED
        assert await restarted.accept(Finding(Status, ("idle", 0, {}), NOW_MS)) is Outcome.STORED
        assert [report.number for report in await restarted.reports()] == [1, 2, 3]

    run(scenario)


CONTROL = Finding(Quality, ("glu", 2, 250))
OTHER = Finding(Quality, ("k", 1, -500))
CLOCK_OFF = [Finding(Quality, ("glu", 2, 250), ms) for ms in (1000, 2000)]
"""Two measurements of an instrument whose clock is in 1970."""


async def after_a_power_cut(port: Port) -> Port:
    await asyncio.sleep(1)  # for the writes that nobody awaits
    return Port(port.disk.backend.cut_power())


def test_a_control_without_a_time_that_was_not_answered_is_recognized_after_a_power_cut() -> None:
    async def scenario(port: Port) -> None:
        await port.accept(CONTROL, OTHER)
        for _ in range(3):  # the answer fails each time
            port = await after_a_power_cut(port)
            assert await port.accept(CONTROL, OTHER) is Outcome.STORED
            assert port.source.counts == {Reason.MESSAGE_REPEATED: 1}
        assert len(await port.reports()) == 2
        port.intake.answered(port.source)
        port = await after_a_power_cut(port)
        assert await port.accept(CONTROL, OTHER) is Outcome.STORED
        assert len(await port.reports()) == 4

    run(scenario)


def test_an_equal_control_after_an_answered_one_is_stored() -> None:
    async def scenario(port: Port) -> None:
        await port.accept(CONTROL)
        port.intake.answered(port.source)
        port = await after_a_power_cut(port)
        await port.accept(CONTROL)
        await port.accept(CONTROL)
        assert len(await port.reports()) == 3

    run(scenario)


@pytest.mark.parametrize(
    "messages",
    [
        [(OTHER,), (CONTROL,)],
        [(), (CONTROL,)],
        [(RUNNING,), (CONTROL,)],
        [(Finding(Quality, ("glu", 2, 251)),), (CONTROL,)],
    ],
)
def test_only_the_first_message_after_the_start_can_repeat_an_unanswered_one(
    messages: list[tuple[Finding, ...]],
) -> None:
    async def scenario(port: Port) -> None:
        await port.accept(CONTROL)
        port = await after_a_power_cut(port)
        for findings in messages:
            assert await port.accept(*findings) is Outcome.STORED
        assert len(await port.reports()) == 1 + sum(map(len, messages))

    run(scenario)


def test_a_control_before_another_message_was_answered() -> None:
    async def scenario(port: Port) -> None:
        await port.accept(CONTROL)
        await port.accept(RUNNING)
        port = await after_a_power_cut(port)
        await port.accept(CONTROL)
        assert len(await port.reports()) == 3

    run(scenario)


def test_findings_that_only_the_repetition_contains_are_stored() -> None:
    async def scenario(port: Port) -> None:
        await port.accept(CONTROL)
        port = await after_a_power_cut(port)
        await port.accept(CONTROL, CONTROL, OTHER)
        assert len(await port.reports()) == 3

    run(scenario)


def test_a_control_of_an_instrument_whose_clock_is_off_is_recognized_after_a_power_cut() -> None:
    async def scenario(port: Port) -> None:
        await port.accept(CLOCK_OFF[0])
        port = await after_a_power_cut(port)
        await port.accept(CLOCK_OFF[0])
        assert len(await port.reports()) == 1
        port.intake.answered(port.source)
        await port.accept(CLOCK_OFF[1])
        port.intake.answered(port.source)
        port = await after_a_power_cut(port)
        await port.accept(Finding(Quality, ("glu", 2, 250), 3000))
        assert len(await port.reports()) == 3

    run(scenario)


def test_alerts_and_states_without_a_time_are_never_taken_for_repetitions() -> None:
    async def scenario(port: Port) -> None:
        alert = Finding(Alert, ("P0201", "pipettor", "error"))
        await port.accept(alert)
        port = await after_a_power_cut(port)
        await port.accept(alert)
        assert len(await port.reports()) == 2

    run(scenario)


def test_an_interruption_at_any_point_does_not_store_a_message_twice() -> None:
    async def interrupted(port: Port, yields: int) -> None:
        first = asyncio.ensure_future(port.accept(RUNNING, ALARM))
        for _ in range(yields):
            await asyncio.sleep(0)
        first.cancel()
        await asyncio.wait((first,))
        assert await port.accept(RUNNING, ALARM) is Outcome.STORED
        assert len(await port.reports()) == 2

    for yields in range(20):
        run(partial(interrupted, yields=yields))
