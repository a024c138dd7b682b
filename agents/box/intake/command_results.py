"""The results of commands to an instrument that speaks its own standard.

Each command has one result, which is stored durably. It is retried while the spool or the rate limit refuses it. If
the power fails before the instrument has answered, the result is "unknown".
"""

from __future__ import annotations

import asyncio
from typing import Final

from agents.box.intake.intake import Intake, Source

COMMAND_POLL_SECONDS: Final = 5.0
"""The interval at which a port checks for commands, and for results to store."""


async def attend_commands(intake: Intake, source: Source, *, can_command: bool) -> None:
    """Store results; each is retried until it is durable. Runs until cancelled.

    Unless `can_command`, every command is refused: the standard has none, or the box only observes the connection.
    """
    loop = asyncio.get_running_loop()
    for command in source.queue.history.started:
        source.ended.setdefault(command, "unknown")
    while True:
        if not can_command:
            source.ended |= {command.id: "refused" for command in source.queue.take(loop.time())}
        await intake.store_results(source)
        await asyncio.sleep(COMMAND_POLL_SECONDS)
