"""Commands on their way from the data center to the instruments.

The data center repeats a command until its result has come, so nothing of this needs to survive a crash. It is
handed to the instrument with the next receipts, not in each of them, until the instrument reports the result. A
result takes a while to reach the data center; what is repeated in the meantime is known to be finished and ignored.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Final, TypeAlias

from wire.messages import COMMANDS_PER_REPLY_MAX, Command
from wire.vocabulary import Outcome

WAITING_MAX: Final = 16
"""Commands that wait for one instrument; more are left to the data center's next try."""
FINISHED_MAX: Final = 256
"""Finished commands of one instrument that are remembered."""
REPEAT_SECONDS: Final = 30.0
"""How long an instrument has before it is given the same command again."""

BoxCommand: TypeAlias = Callable[[Command], Awaitable[Outcome]]


class Desk:
    """The commands for one instrument."""

    def __init__(self) -> None:
        self._waiting: dict[int, tuple[Command, float]] = {}
        self._finished: OrderedDict[int, None] = OrderedDict()

    def put(self, command: Command) -> bool:
        """Take a command, unless it is here already, is finished, or there are too many."""
        if command.id in self._waiting or command.id in self._finished or len(self._waiting) >= WAITING_MAX:
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

    def finished(self, command_id: int) -> None:
        """Its result is durable."""
        self._waiting.pop(command_id, None)
        self._finished[command_id] = None
        if len(self._finished) > FINISHED_MAX:
            self._finished.popitem(last=False)


class Dispatcher:
    """The desks of all instruments, and the box's own, whose commands are executed here."""

    def __init__(
        self,
        instruments: Iterable[str],
        box_commands: Mapping[str, BoxCommand],
        note: Callable[[str, int], object],
    ) -> None:
        """`box_commands` is by verb; `note` writes an audit record (event, value)."""
        self._desks = {name: Desk() for name in instruments}
        self._box = Desk()
        self._box_commands = box_commands
        self._note = note

    def of(self, instrument: str) -> Desk:
        """The desk of an enrolled instrument."""
        return self._desks[instrument]

    async def arrived(self, commands: list[Command]) -> None:
        """Commands from the data center: keep them for their instruments, execute the box's own."""
        for command in commands:
            desk = self._desks.get(command.instrument) if command.instrument else self._box
            if desk is None:
                self._note("command-for-unknown-instrument", command.id)
            elif desk.put(command) and desk is self._box:
                await self._execute(command)

    async def _execute(self, command: Command) -> None:
        execute = self._box_commands.get(command.verb)
        outcome = "unknown" if execute is None else await execute(command)
        self._note(f"command-{outcome}", command.id)
        self._box.finished(command.id)
