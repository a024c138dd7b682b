"""Spools whose segments tests can inspect, and damage to their files."""

from __future__ import annotations

from collections.abc import Callable

from agents.spool import RecoveredSpool, Spool, SpoolGap
from agents.spool.survey import SpoolState
from hal.disk import Disk


class InspectedSpool(Spool):
    """A spool whose segments (`log`) and lost numbers (`ledger`) tests can read."""

    def __init__(
        self,
        state: SpoolState,
        recovery: RecoveredSpool,
        encode_gap: Callable[[SpoolGap], bytes],
        snapshot: Callable[[], bytes],
    ) -> None:
        super().__init__(state, recovery, encode_gap, snapshot)
        self.log, self.ledger = state.log, state.ledger

    def begin_segment(self) -> None:
        """Begin a new segment with the next group."""
        self.log.room = 0


def flip_bits(disk: Disk, name: str, offset: int, mask: int = 4) -> None:
    """Flip bits of one byte of a file, durably."""
    (byte,) = disk.read(name, offset, 1)
    disk.write(name, offset, bytes([byte ^ mask]))
    disk.flush(name)


def flip_first(disk: Disk, name: str, data: bytes) -> None:
    """Flip a bit of the first occurrence of `data` in a file."""
    flip_bits(disk, name, disk.read(name, 0, disk.size(name)).index(data), 1)
