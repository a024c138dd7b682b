"""The box's own commands: executed outside the acknowledgement path, with exactly one result each."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from random import Random

import pytest

from agents.box.buffer import Buffer
from agents.box.commands import EXECUTE_SECONDS_MAX, WAITING_MAX, BoxCommand, CommandDispatcher, CommandQueue
from agents.box.health.audit import AuditLog, encode_gap
from agents.box.state import BoxState
from agents.spool import Priority, Spool, SpoolLimits
from hal.emul.clock import EmulClock
from hal.emul.disk import EmulDisk
from sim.net.link import LinkQuality
from sim.net.loop import SimLoop
from tests.support.agents.uplink.uplinked import World
from tests.support.crypto.hierarchy import Hierarchy
from wire.messages import Alert, Audit, Command, CommandResult, Entry, Outcome, decode, encode

CLOCK = EmulClock(lambda: 1_700_000_000_000_000_000)
LIMITS = SpoolLimits(segment_bytes=2 << 20, spool_bytes_max=8 << 20, snapshot_bytes_max=4096)
COMMAND = Command(7, "", "send-inventory")
SECONDS_EACH = 60.0


class CommandBox:
    """The spool and command dispatcher of a box from one start to the next. Its command takes a minute, and then
    appends its id to `effects`.
    """

    def __init__(self, disk: EmulDisk, effects: list[int], execute: BoxCommand | None = None) -> None:
        self.effects = effects
        state = BoxState()
        self.spool = Spool.open(
            disk,
            LIMITS,
            random=Random(1),
            encode_gap=lambda gap: encode_gap(gap, CLOCK),
            snapshot=state.snapshot,
        )
        state.restore(self.spool.recovery, {"CHEM-1"})
        self.buffer = Buffer(self.spool)
        queues = {name: CommandQueue(state.history(name)) for name in ("", "CHEM-1")}
        verbs = {"send-inventory": execute or self._execute}
        self.dispatcher = CommandDispatcher(queues, verbs, AuditLog(self.buffer, CLOCK))
        self.running = asyncio.ensure_future(self.dispatcher.run())

    async def _execute(self, command: Command) -> Outcome:
        await asyncio.sleep(SECONDS_EACH)
        self.effects.append(command.id)
        return "done"

    async def end(self) -> None:
        self.running.cancel()
        with suppress(asyncio.CancelledError):
            await self.running

    def recorded(self) -> list[str]:
        """Return the audit events and results in the spool, in order."""
        bodies = [
            decode(Entry, payload).body for _, payload in self.spool.read(Priority.AUDIT, 1000, 1 << 20)
        ]
        return [_describe(body) for body in bodies if isinstance(body, (Audit, CommandResult))]


def _describe(body: Audit | CommandResult) -> str:
    if isinstance(body, Audit):
        return f"{body.event} {body.value}"
    return f"result {body.command} {body.outcome}"


def new_disk() -> EmulDisk:
    return EmulDisk(64 << 20, Random(1))


def in_simulated_time(scenario: Callable[[], Awaitable[None]]) -> None:
    async def run() -> None:
        await scenario()

    SimLoop().run_until_complete(run())


def test_a_command_is_recorded_before_and_after_and_not_executed_again() -> None:
    async def scenario() -> None:
        disk, effects = new_disk(), list[int]()
        for _ in range(3):
            box = CommandBox(disk, effects)
            for _ in range(3):
                box.dispatcher.arrived([COMMAND])
                await asyncio.sleep(SECONDS_EACH * 2)
            await box.end()
            assert box.recorded() == ["command-started 7", "command-done 7", "result 7 done"]
            disk = disk.backend.cut_power()
        assert effects == [7]

    in_simulated_time(scenario)


@pytest.mark.parametrize("cut_after_s", [0.0, SECONDS_EACH / 2, SECONDS_EACH * 2])
@pytest.mark.parametrize("operation", range(12))
def test_a_power_cut_at_any_stage_leaves_one_result(cut_after_s: float, operation: int) -> None:
    """The power fails at the `operation`-th disk operation after `cut_after_s`; 0: immediately."""

    async def scenario() -> None:
        disk, effects = new_disk(), list[int]()
        box = CommandBox(disk, effects)
        await box.buffer.append(Priority.AUDIT, encode(Entry("", 0, Audit(0, "first"))))
        if operation and not cut_after_s:
            disk.backend.cut_power_at(operation)
        box.dispatcher.arrived([COMMAND])
        await asyncio.sleep(cut_after_s)
        if operation and cut_after_s:
            disk.backend.cut_power_at(operation)
        if operation:
            await asyncio.sleep(SECONDS_EACH * 2)
        await box.end()
        disk = disk.backend.cut_power() if disk.backend.has_power else disk.backend.reboot()

        executed_before = list(effects)
        box = CommandBox(disk, effects)
        before = box.recorded()
        for _ in range(2):
            box.dispatcher.arrived([COMMAND])
            await asyncio.sleep(SECONDS_EACH * 2)
        await box.end()
        results = [line for line in box.recorded() if line.startswith("result")]
        if "command-started 7" in before and "result 7 done" not in before:
            assert results == ["result 7 failed"]
            assert "command-interrupted 7" in box.recorded()
            assert effects == executed_before
        else:
            assert results == ["result 7 done"]
            assert effects == [7]

    in_simulated_time(scenario)


@pytest.mark.parametrize("withdrawn_first", [True, False])
@pytest.mark.parametrize("operation", range(12))
def test_a_withdrawal_and_the_execution_exclude_each_other_after_any_power_cut(
    withdrawn_first: bool, operation: int
) -> None:
    """The power fails at the `operation`-th disk operation after both have arrived; 0: not at all."""

    async def scenario() -> None:
        disk, effects = new_disk(), list[int]()
        box = CommandBox(disk, effects)
        await box.buffer.append(Priority.AUDIT, encode(Entry("", 0, Audit(0, "first"))))
        if operation:
            disk.backend.cut_power_at(operation)
        for is_withdrawal in (withdrawn_first, not withdrawn_first):
            if is_withdrawal:
                box.dispatcher.withdraw([7])
            else:
                box.dispatcher.arrived([COMMAND])
                await asyncio.sleep(0)
        await asyncio.sleep(SECONDS_EACH * 2)
        await box.end()
        disk = disk.backend.cut_power() if disk.backend.has_power else disk.backend.reboot()
        box = CommandBox(disk, effects)
        for _ in range(2):
            box.dispatcher.withdraw([7])
            await asyncio.sleep(SECONDS_EACH * 2)
        box.dispatcher.arrived([COMMAND])
        await asyncio.sleep(SECONDS_EACH * 2)
        await box.end()
        (result,) = [line for line in box.recorded() if line.startswith("result")]
        if result == "result 7 withdrawn":
            assert effects == []
        else:
            assert result == ("result 7 done" if effects else "result 7 failed")
        assert len(effects) <= 1

    in_simulated_time(scenario)


def test_a_result_that_the_disk_refuses_is_recorded_later() -> None:
    async def scenario() -> None:
        disk, effects = new_disk(), list[int]()
        box = CommandBox(disk, effects)
        box.dispatcher.arrived([COMMAND])
        await asyncio.sleep(SECONDS_EACH / 2)
        disk.backend.fail_next_write(20)
        await asyncio.sleep(SECONDS_EACH)
        assert effects == [7]
        disk.backend.let_writes_succeed()
        await asyncio.sleep(SECONDS_EACH)
        await box.end()
        assert box.recorded()[-2:] == ["command-done 7", "result 7 done"]

    in_simulated_time(scenario)


def test_a_command_whose_start_cannot_be_recorded_is_not_executed() -> None:
    async def scenario() -> None:
        disk, effects = new_disk(), list[int]()
        box = CommandBox(disk, effects)
        disk.backend.fail_next_write(20)
        box.dispatcher.arrived([COMMAND])
        await asyncio.sleep(SECONDS_EACH * 2)
        assert effects == []
        disk.backend.let_writes_succeed()
        box.dispatcher.arrived([COMMAND])
        await asyncio.sleep(SECONDS_EACH * 2)
        assert effects == [7]
        await box.end()

    in_simulated_time(scenario)


def test_a_command_that_fails_or_never_ends_has_failed_and_the_next_is_executed() -> None:
    async def fail(command: Command) -> Outcome:
        if command.id == 1:
            raise RuntimeError("a bug")
        if command.id == 2:
            await asyncio.Event().wait()
        return "done"

    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: reported.append(context))
        box = CommandBox(new_disk(), [], fail)
        box.dispatcher.arrived([Command(number, "", "send-inventory") for number in (1, 2, 3)])
        box.dispatcher.arrived([Command(4, "", "test-menu"), Command(5, "NOBODY", "test-menu")])
        await asyncio.sleep(EXECUTE_SECONDS_MAX + 1)
        await box.end()
        results = [line for line in box.recorded() if line.startswith("result")]
        assert results == ["result 1 failed", "result 2 failed", "result 3 done", "result 4 unknown"]
        assert "command-for-unknown-instrument 5" in box.recorded()
        assert [str(context["exception"]) for context in reported] == ["a bug", ""]

    reported: list[dict[str, object]] = []
    in_simulated_time(scenario)


def test_commands_beyond_the_limit_are_accepted_when_repeated() -> None:
    async def scenario() -> None:
        effects: list[int] = []
        box = CommandBox(new_disk(), effects)
        commands = [Command(number, "", "send-inventory") for number in range(1, WAITING_MAX + 3)]
        box.dispatcher.arrived(commands)
        await asyncio.sleep(SECONDS_EACH * (WAITING_MAX + 1))
        assert effects == list(range(1, WAITING_MAX + 1))
        box.dispatcher.arrived(commands)
        await asyncio.sleep(SECONDS_EACH * 3)
        assert effects == list(range(1, WAITING_MAX + 3))
        await box.end()

    in_simulated_time(scenario)


class Slow(World):
    """The data center sends a command with its first reply, and the command takes a minute."""

    async def live(self) -> None:
        self.center.commands = [COMMAND]
        effects: list[int] = []

        async def execute(command: Command) -> Outcome:
            await asyncio.sleep(SECONDS_EACH)
            effects.append(command.id)
            return "done"

        verbs = {"send-inventory": execute}
        self.dispatcher = CommandDispatcher({"": CommandQueue()}, verbs, AuditLog(self.buffer, self.clock))
        running = asyncio.ensure_future(self.dispatcher.run())
        for number in range(1, 11):
            entry = Entry("CHEM-1", 1, Alert(number, 0, "L0100", "lamp", "error"))
            await self.buffer.append(Priority.ALERT, encode(entry))
            await asyncio.sleep(2)
            assert self.center.alerts == list(range(1, number + 1))
            assert (await self.buffer.status()).records[
                Priority.ALERT
            ] == 0  # acknowledged to the spool as well
        assert "command-started" in self.center.audits
        assert effects == []
        await asyncio.sleep(SECONDS_EACH)
        assert effects == [7]
        assert self.center.audits.count("command-done") == 1
        running.cancel()

    def commands_arrived(self, commands: list[Command]) -> None:
        self.dispatcher.arrived(commands)


def test_a_command_that_takes_a_minute_delays_no_report_and_no_acknowledgement(pki: Hierarchy) -> None:
    Slow(pki, LinkQuality(128_000, 40_000_000)).run()
