"""Commands on the instrument: each is executed once, after its file is verified and the person at it has consented.

The box repeats a command until it has the result, and after a restart of the box it may repeat completed ones. The
runner reports `delivered` when it has the command with its file, and `executing` once nothing is missing. It
begins when the box has acknowledged this report: if the command was withdrawn before, the box reports this in the
receipt. A command that an earlier start of the agent began (`is_begun`) has failed, as its effect may be incomplete.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, Protocol, TypeAlias

from agents.instrument.files import FileClient, FileTransferError
from wire.files import DOWN_VERBS, FileReference
from wire.messages import Command, CommandResult, CommandStep, InstrumentReport, MessageError, Outcome, decode

OUTCOMES_MAX: Final = 256
"""Number of commands whose outcome is remembered."""

Submit: TypeAlias = Callable[..., object]
"""Queues a report of a kind, with its fields."""


class Instrument(Protocol):
    """The instrument's side of commands: consent and execution."""

    async def consent(self, command: Command, content: bytes) -> bool:
        """Ask the person at the instrument whether the command may be executed, if its profile requires that.

        `content` is the verified file of the command. Returns when the person has answered.
        """
        ...

    async def execute(self, command: Command, content: bytes) -> Outcome | bytes:
        """Execute a command; return its outcome, or the content of the file to upload."""
        ...


class NoCommands:
    """An instrument that executes no command."""

    async def consent(self, _command: Command, _content: bytes) -> bool:
        """See `Instrument`."""
        return True

    async def execute(self, _command: Command, _content: bytes) -> Outcome | bytes:
        """See `Instrument`."""
        return "unknown"


class CommandRunner:
    """Executes the commands of one start of an agent."""

    def __init__(self, submit: Submit, files: FileClient, instrument: Instrument) -> None:
        self._submit, self._files, self._instrument = submit, files, instrument
        self._loop = asyncio.get_running_loop()
        self._new: asyncio.Queue[Command] = asyncio.Queue()
        # by command; None while it is executed or its result is not acknowledged
        self._outcomes: dict[int, Outcome | None] = {}
        self._permits: dict[int, asyncio.Future[bool]] = {}
        self._one_at_a_time = asyncio.Lock()

    def received(self, command: Command) -> None:
        """Accept a command from the box's receipt."""
        if command.id not in self._outcomes:
            self._outcomes[command.id] = None
            self._forget_oldest()
            if command.is_begun:
                self._report(command.id, "failed")
            else:
                self._new.put_nowait(command)
        elif (outcome := self._outcomes[command.id]) is not None:
            self._report(command.id, outcome)

    def acknowledged(self, reports: list[InstrumentReport], withdrawn: list[int]) -> None:
        """Note reports that the box has stored, and the commands that must not be executed, by its receipt."""
        for report in reports:
            if isinstance(report, CommandResult) and report.command in self._outcomes:
                self._outcomes[report.command] = report.outcome
            elif isinstance(report, CommandStep) and (permit := self._permits.pop(report.command, None)):
                permit.set_result(report.command not in withdrawn)

    async def run(self) -> None:
        """Execute commands until cancelled. A command that waits for its file or for consent delays no other."""
        tasks: set[asyncio.Task[None]] = set()
        try:
            while True:
                task = self._loop.create_task(self._attend(await self._new.get()))
                tasks.add(task)
                task.add_done_callback(tasks.discard)
        finally:
            for task in tasks:
                task.cancel()

    async def _attend(self, command: Command) -> None:
        try:
            outcome = await self._outcome(command)
        except Exception as error:
            message = f"the command {command.verb} failed"
            self._loop.call_exception_handler({"message": message, "exception": error})
            outcome = "failed"
        self._report(command.id, outcome)

    async def _outcome(self, command: Command) -> Outcome:
        try:
            content = await self._content(command)
        except FileTransferError:
            return "failed"
        self._submit(CommandStep, command.id, "delivered")
        if not await self._instrument.consent(command, content):
            return "refused"
        async with self._one_at_a_time:
            if not await self._begin(command.id):
                return "withdrawn"
            result = await self._instrument.execute(command, content)
            return await self._upload(command.id, result) if isinstance(result, bytes) else result

    async def _content(self, command: Command) -> bytes:
        """Return the verified file of a command; the body itself without a reference. Raises: FileTransferError."""
        if command.verb not in DOWN_VERBS:
            return command.body
        try:
            reference = decode(FileReference, command.body)
        except MessageError:
            return command.body
        return await self._files.fetch(reference)

    async def _begin(self, command: int) -> bool:
        """Announce the execution; return whether it may begin."""
        permit: asyncio.Future[bool] = self._loop.create_future()
        self._permits[command] = permit
        self._submit(CommandStep, command, "executing")
        return await permit

    async def _upload(self, command: int, content: bytes) -> Outcome:
        try:
            await self._files.send(command, content)
        except FileTransferError as error:
            return "refused" if error.is_refusal else "failed"
        return "done"

    def _report(self, command: int, outcome: Outcome) -> None:
        self._outcomes[command] = None
        self._submit(CommandResult, command, outcome)

    def _forget_oldest(self) -> None:
        if len(self._outcomes) > OUTCOMES_MAX:
            finished = (command for command, outcome in self._outcomes.items() if outcome is not None)
            if (oldest := next(finished, None)) is not None:
                del self._outcomes[oldest]
