"""The machine of a recorded conversation's box: its disk is kept when the script restarts the program."""

from __future__ import annotations

from collections import Counter
from random import Random
from typing import Final

from hal.emul.clock import EmulClock
from hal.emul.disk import EmulDisk
from sim.conversations.casefile import Conversation
from sim.conversations.port import ConversationPort
from wire.standards.extract import Reason

DISK_BYTES: Final = 32 * 1024 * 1024


class ConversationBox:
    """A box whose program can be restarted. `port` belongs to the running program; `disk` is kept at a restart."""

    def __init__(
        self, case: Conversation, clock: EmulClock, disk: EmulDisk | None = None, random: Random | None = None
    ) -> None:
        """Raises: SpoolError if the disk has no power."""
        self._case, self._clock, self._random = case, clock, random or Random(1)
        self.disk = disk or EmulDisk(DISK_BYTES, Random(1))
        self._counts: Counter[Reason] = Counter()
        self._last_counts: Counter[Reason] | None = None
        """The counts of the current program at the time of the power loss; None if the power has not failed."""
        self.port = self._start()

    @property
    def counts(self) -> Counter[Reason]:
        """The sum of the counts of all programs."""
        present = self.port.source.counts if self._last_counts is None else self._last_counts
        return self._counts + present

    async def restart(self) -> None:
        """Stop the program and start it again."""
        await self.port.close()
        self._start_again()

    def cut_power_at(self, operation: int) -> None:
        """Cut the power in the `operation`-th disk operation from now on. Nothing is counted afterwards."""

        def save_counts() -> None:
            self._last_counts = self.port.source.counts.copy()

        self.disk.backend.cut_power_at(operation)
        self.disk.backend.on_power_lost = save_counts

    def cut_power(self) -> None:
        """Cut the power, unless it has failed already, and switch the box on again."""
        self.port.abandon()
        backend = self.disk.backend
        self.disk = backend.cut_power() if backend.has_power else backend.reboot()
        self._start_again()

    def _start_again(self) -> None:
        self._counts, self._last_counts = self.counts, None
        self.port = self._start()

    def _start(self) -> ConversationPort:
        return ConversationPort(self._case, self.disk, self._clock, self._random)
