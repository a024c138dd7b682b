"""Commands of the data center: forwarded to instruments, or executed by the box itself.

The data center repeats a command until it has the result, so waiting commands are not stored durably. A command is
sent to its instrument with the next receipt, and again every REPEAT_SECONDS until the instrument reports the result.

A worker executes the box's own commands one after the other, independently of the acknowledgement of batches: a
command that takes an hour delays no report. Each command leaves two records in the spool: `command-started` before
its execution, and its result afterwards. If the power fails between the two, the next start records
`command-interrupted` and the result "failed", because its effect may be incomplete. Each command therefore has
exactly one result and is executed at most once, unless FINISHED_MAX newer ones were finished before the data center
repeats it.

An agent reports the step `executing` before it executes a command, and begins when that report is durable on the box.
A withdrawal is recorded in the same log. The first of the two records applies, so that a withdrawn command is never
executed: the receipt for the agent's step reports the withdrawal. A command that the agent began to execute before it
was restarted is sent to it with `is_begun`, and fails.

The same holds for a command to an instrument that speaks its own standard, which the box itself sends
(`agents.box.intake.adapter`): `command-started` has the instrument's port, and the result of a command that the
power interrupted is "unknown".
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Final, Protocol, TypeAlias

import msgspec
from msgspec.structs import replace

from agents.spool import SpoolError
from wire.audit_events import AuditEvent
from wire.messages import COMMANDS_PER_REPLY_MAX, Command, Outcome

WAITING_MAX: Final = 16
"""Limit of the waiting commands for one instrument or for the box; further ones are ignored until repeated."""
FINISHED_MAX: Final = 256
"""Finished commands remembered for each instrument and for the box, also across restarts."""
STARTED_MAX: Final = 2 * WAITING_MAX
"""Started commands without a result remembered for each instrument and for the box, also across restarts."""
REPEAT_SECONDS: Final = 30.0
"""Interval after which a command without a result is sent to the instrument again."""
EXECUTE_SECONDS_MAX: Final = 3600.0
"""Time limit of a box command; then it is cancelled and its result is "failed"."""
RETRY_SPOOL_SECONDS: Final = 10.0
"""Pause before another attempt to record a result that the spool refused."""

BoxCommand: TypeAlias = Callable[[Command], Awaitable[Outcome]]


class CommandHistory(msgspec.Struct, array_like=True):
    """Numbers of commands: started ones without a result, and finished ones, oldest first."""

    started: list[int] = []
    finished: list[int] = []

    def start(self, command_id: int) -> None:
        """Record that the execution of a command has begun."""
        if command_id not in self.started and command_id not in self.finished:
            self.started = [*self.started, command_id][-STARTED_MAX:]

    def finish(self, command_id: int) -> None:
        """Record that the result of a command is durable."""
        self.started = [started for started in self.started if started != command_id]
        if command_id not in self.finished:
            self.finished = [*self.finished, command_id][-FINISHED_MAX:]


class CommandQueue:
    """Waiting commands for one instrument, or for the box.

    With `has_agent`, the instrument's agent reports when it begins: begun commands stay in the queue until their
    result, so that a restarted agent receives them again.
    """

    def __init__(self, history: CommandHistory | None = None, *, has_agent: bool = False) -> None:
        self.history = history or CommandHistory()
        self._has_agent = has_agent
        self._waiting: dict[int, tuple[Command, float]] = {}

    def put(self, command: Command) -> bool:
        """Add a command; return False if it is known (waiting, started or finished) or the queue is full."""
        known = command.id in self._waiting or command.id in self.history.finished
        if not self._has_agent:
            known = known or command.id in self.history.started
        if known or len(self._waiting) >= WAITING_MAX:
            return False
        self._waiting[command.id] = (command, 0.0)
        return True

    def take(self, now: float, is_ready: Callable[[Command], bool] = lambda _command: True) -> list[Command]:
        """Return the commands to send now, oldest first; `now` is in seconds of the event loop's clock.

        Commands for which `is_ready` is False, for example because their file is missing, stay in the queue.
        """
        if not self._waiting:
            return []
        due = [command for command, not_before in self._waiting.values() if not_before <= now]
        due = [command for command in due if is_ready(command)][:COMMANDS_PER_REPLY_MAX]
        for command in due:
            self._waiting[command.id] = (command, now + REPEAT_SECONDS)
        started = self.history.started
        return [replace(command, is_begun=True) if command.id in started else command for command in due]

    def commands(self) -> list[Command]:
        """Return the waiting commands, oldest first."""
        return [command for command, _ in self._waiting.values()]

    def begin(self, command_id: int) -> None:
        """Remove a command that is being sent to its instrument, and remember it as started: it is not sent again."""
        self.drop(command_id)
        self.history.start(command_id)

    def drop(self, command_id: int) -> None:
        """Remove a waiting command; the data center repeats it unless it has the result."""
        self._waiting.pop(command_id, None)

    def finished(self, command_id: int) -> None:
        """Remove a command whose result is durable, and remember it as finished."""
        self.drop(command_id)
        self.history.finish(command_id)

    @property
    def waiting(self) -> int:
        """Number of waiting commands."""
        return len(self._waiting)

    def oldest(self) -> Command | None:
        """Return the command that has waited longest."""
        return next((command for command, _ in self._waiting.values()), None)


class CommandRecorder(Protocol):
    """Records events and results of commands; implemented by `agents.box.health.audit.AuditLog`."""

    def note(self, event: AuditEvent, value: int = 0) -> None:
        """Record an event without waiting until it is durable."""
        ...

    def record(self, event: AuditEvent, value: int = 0) -> asyncio.Future[range]:
        """Record an event; durable when awaited. Raises, when awaited: SpoolError."""
        ...

    def record_result(self, command_id: int, outcome: Outcome, event: AuditEvent) -> asyncio.Future[range]:
        """Record the result of a command, and `event`; durable when awaited. Raises, when awaited: SpoolError."""
        ...


class CommandDispatcher:
    """Distributes commands to the queues of the instruments and of the box; `run` executes the box's commands."""

    def __init__(
        self,
        queues: Mapping[str, CommandQueue],
        box_commands: Mapping[str, BoxCommand],
        recorder: CommandRecorder,
    ) -> None:
        """`queues` has keys that are serial numbers, or "" for the box; `box_commands` maps verbs to functions."""
        self._queues, self._box = queues, queues[""]
        self._box_commands, self._recorder = box_commands, recorder
        self._loop = asyncio.get_running_loop()
        self._arrived = asyncio.Event()
        self._ending: dict[int, asyncio.Task[None]] = {}

    def queue_of(self, instrument: str) -> CommandQueue:
        """Return the queue of an enrolled instrument."""
        return self._queues[instrument]

    def arrived(self, commands: list[Command]) -> None:
        """Put commands from the data center into the queues."""
        for command in commands:
            queue = self._queues.get(command.instrument)
            if queue is None:
                self._recorder.note(AuditEvent.COMMAND_FOR_UNKNOWN_INSTRUMENT, command.id)
            elif self.is_withdrawn(command.id):
                pass  # sent before the withdrawal, and overtaken by it
            elif queue.put(command) and queue is self._box:
                self._arrived.set()

    def withdraw(self, commands: list[int]) -> None:
        """Withdraw commands at the request of the data center, unless they were begun or finished."""
        for command_id in commands:
            if command_id not in self._ending and not any(
                command_id in queue.history.started or command_id in queue.history.finished
                for queue in self._queues.values()
            ):
                self._end(command_id, "withdrawn", AuditEvent.COMMAND_WITHDRAWN)

    def refuse(self, command_id: int) -> None:
        """Refuse a command that was not sent to its instrument, because there is no room for its file."""
        if not self.is_withdrawn(command_id):
            self._end(command_id, "refused", AuditEvent.COMMAND_REFUSED)

    def _end(self, command_id: int, outcome: Outcome, event: AuditEvent) -> None:
        task = self._loop.create_task(self._record_end(command_id, outcome, event))
        self._ending[command_id] = task

    def is_withdrawn(self, command_id: int) -> bool:
        """Return whether the box has withdrawn or refused a command, or is about to, so that it must not begin."""
        return command_id in self._ending or command_id in self._box.history.finished

    async def _record_end(self, command_id: int, outcome: Outcome, event: AuditEvent) -> None:
        try:
            await self._recorder.record_result(command_id, outcome, event)
            self._box.history.finish(command_id)
            for queue in self._queues.values():
                queue.drop(command_id)
        except SpoolError:
            pass  # the data center repeats the withdrawal or the command
        finally:
            del self._ending[command_id]

    def waiting(self) -> Iterator[Command]:
        """Return the waiting commands of all instruments."""
        return (command for queue in self._queues.values() for command in queue.commands())

    def fullest(self) -> tuple[int, int]:
        """Return the length of the longest queue, and the limit."""
        return max(queue.waiting for queue in self._queues.values()), WAITING_MAX

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
        if self.is_withdrawn(command.id):
            self._box.drop(command.id)
            return
        execute = self._box_commands.get(command.verb)
        if execute is None:
            await self._finish(command.id, "unknown")
            return
        self._box.history.start(command.id)  # from here on it cannot be withdrawn
        try:
            await self._recorder.record(AuditEvent.COMMAND_STARTED, command.id)
        except SpoolError:
            self._box.history.started.remove(command.id)
            self._box.drop(command.id)  # not started; the data center repeats it
            return
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
