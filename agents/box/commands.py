"""Commands on their way from the data center to the instruments, and the box's own, which are executed here.

The data center repeats a command until its result has arrived, so a command that waits need not survive a crash. It
is handed to the instrument with the next receipts, not with each of them, until the instrument reports the result.

The box's own commands are executed one after the other by a worker, outside the path on which batches are
acknowledged: a command that takes an hour delays no report. A command leaves two records in the spool:
`command-started` before its execution begins, and its result afterwards. If the power fails between the two, the next
start notes `command-interrupted` and reports that the command failed: its effect may be incomplete. Each command
therefore has exactly one result, and is executed at most once, unless FINISHED_MAX newer ones were finished before
the data center repeats it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Final, Protocol, TypeAlias

import msgspec

from agents.spool import SpoolError
from wire.audit_events import AuditEvent
from wire.messages import COMMANDS_PER_REPLY_MAX, Command
from wire.vocabulary import Outcome

WAITING_MAX: Final = 16
"""Commands that wait for one instrument, or for the box; more are left to the data center's next try."""
FINISHED_MAX: Final = 256
"""Finished commands that are remembered, for each instrument and for the box, also across restarts."""
REPEAT_SECONDS: Final = 30.0
"""How long an instrument has before it is given the same command again."""
EXECUTE_SECONDS_MAX: Final = 3600.0
"""A command of the box that takes longer is cancelled and has failed."""
RETRY_SPOOL_SECONDS: Final = 10.0
"""When to try again to record a result that the disk did not take."""

BoxCommand: TypeAlias = Callable[[Command], Awaitable[Outcome]]


class History(msgspec.Struct, array_like=True):
    """Commands by number: started without a result yet, and finished, oldest first."""

    started: list[int] = []
    finished: list[int] = []

    def start(self, command_id: int) -> None:
        """Note that a command's execution begins."""
        if command_id not in self.started and command_id not in self.finished:
            self.started.append(command_id)

    def finish(self, command_id: int) -> None:
        """Note that a command's result is durable."""
        self.started = [started for started in self.started if started != command_id]
        if command_id not in self.finished:
            self.finished = [*self.finished, command_id][-FINISHED_MAX:]


class CommandQueue:
    """The commands for one instrument, or for the box."""

    def __init__(self, history: History | None = None) -> None:
        self.history = history or History()
        self._waiting: dict[int, tuple[Command, float]] = {}

    def put(self, command: Command) -> bool:
        """Take a command, unless it is here already, was started or finished, or there are too many."""
        history = self.history
        known = command.id in self._waiting or command.id in history.finished or command.id in history.started
        if known or len(self._waiting) >= WAITING_MAX:
            return False
        self._waiting[command.id] = (command, 0.0)
        return True

    def take(self, now: float) -> list[Command]:
        """What to hand out now, oldest first."""
        if not self._waiting:
            return []
        due = [command for command, not_before in self._waiting.values() if not_before <= now]
        for command in due[:COMMANDS_PER_REPLY_MAX]:
            self._waiting[command.id] = (command, now + REPEAT_SECONDS)
        return due[:COMMANDS_PER_REPLY_MAX]

    def drop(self, command_id: int) -> None:
        """Forget a command that waits; the data center will repeat it."""
        self._waiting.pop(command_id, None)

    def finished(self, command_id: int) -> None:
        """Its result is durable."""
        self.drop(command_id)
        self.history.finish(command_id)

    @property
    def waiting(self) -> int:
        """How many commands wait."""
        return len(self._waiting)

    def oldest(self) -> Command | None:
        """The command that has waited longest."""
        return next((command for command, _ in self._waiting.values()), None)


class CommandRecorder(Protocol):
    """Where the box's commands leave their records; `agents.box.health.audit.AuditLog` is one."""

    def note(self, event: AuditEvent, value: int = 0) -> None:
        """Note an event without waiting for it."""
        ...

    def record(self, event: AuditEvent, value: int = 0) -> asyncio.Future[range]:
        """Note an event; durable when awaited. Raises when awaited: SpoolError."""
        ...

    def record_result(self, command_id: int, outcome: Outcome, event: AuditEvent) -> asyncio.Future[range]:
        """Note the result of a command, and `event`; durable when awaited. Raises when awaited: SpoolError."""
        ...


class CommandDispatcher:
    """The desks of all instruments, and the box's own. Commands arrive at any time; `run` executes the box's."""

    def __init__(
        self,
        desks: Mapping[str, CommandQueue],
        box_commands: Mapping[str, BoxCommand],
        recorder: CommandRecorder,
    ) -> None:
        """`desks` has the box's own under ""; `box_commands` is by verb."""
        self._desks, self._box = desks, desks[""]
        self._box_commands, self._recorder = box_commands, recorder
        self._loop = asyncio.get_running_loop()
        self._arrived = asyncio.Event()

    def of(self, instrument: str) -> CommandQueue:
        """The desk of an enrolled instrument."""
        return self._desks[instrument]

    def arrived(self, commands: list[Command]) -> None:
        """Keep commands from the data center for their instruments, and the box's own for `run`."""
        for command in commands:
            desk = self._desks.get(command.instrument)
            if desk is None:
                self._recorder.note(AuditEvent.COMMAND_FOR_UNKNOWN_INSTRUMENT, command.id)
            elif desk.put(command) and desk is self._box:
                self._arrived.set()

    def fullest(self) -> tuple[int, int]:
        """How many commands wait at the desk with the most of them, and how many may."""
        return max(desk.waiting for desk in self._desks.values()), WAITING_MAX

    async def run(self) -> None:
        """Execute the box's commands, one after the other, until cancelled."""
        for command_id in list(self._box.history.started):
            await self._finish(command_id, "failed", AuditEvent.COMMAND_INTERRUPTED)
        while True:
            await self._execute(await self._next())

    async def _next(self) -> Command:
        while (command := self._box.oldest()) is None:
            self._arrived.clear()
            await self._arrived.wait()
        return command

    async def _execute(self, command: Command) -> None:
        execute = self._box_commands.get(command.verb)
        if execute is None:
            await self._finish(command.id, "unknown")
            return
        try:
            await self._recorder.record(AuditEvent.COMMAND_STARTED, command.id)
        except SpoolError:
            self._box.drop(command.id)  # not begun
            return
        self._box.history.start(command.id)
        await self._finish(command.id, await self._outcome(execute, command))

    async def _outcome(self, execute: BoxCommand, command: Command) -> Outcome:
        try:
            async with asyncio.timeout(EXECUTE_SECONDS_MAX):
                return await execute(command)
        except Exception as error:
            message = f"the command {command.verb} failed"
            self._loop.call_exception_handler({"message": message, "exception": error})
            return "failed"

    async def _finish(self, command_id: int, outcome: Outcome, event: AuditEvent | None = None) -> None:
        while True:
            try:
                event = event or AuditEvent(f"command-{outcome}")
                await self._recorder.record_result(command_id, outcome, event)
                break
            except SpoolError:
                await asyncio.sleep(RETRY_SPOOL_SECONDS)
        self._box.finished(command_id)
