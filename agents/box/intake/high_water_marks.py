"""High-water marks: which reports of each instrument the box has already accepted, by priority.

An instrument whose acknowledgement was lost sends its reports again, and the box must not store them twice. It sends
the reports of one priority by rising number and continues only after an acknowledgement, so a mark (run, number) and
the digests of the last DIGESTS_MAX accepted reports identify every repetition: a number that is not above the mark,
with a digest that is remembered. A number that is not above the mark with any other digest is a different report
under a number that was used before: an agent that started again with the same run. It must be refused, because
acknowledging it would lose it.

Each life of the agent has a higher run than the one before, and counts its reports anew.

The marks survive a crash as the spool's snapshot and the records after it. One thing can then be below a mark and
still be missing: a report of the group that was being written when the power failed, of which a later part reached
the disk and an earlier did not. Such numbers are the mark's *holes*; their reports were never acknowledged, come
again first, and are new.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Final

import msgspec

from agents.spool import Priority
from wire.messages import REPORTS_PER_POST_MAX

INSTRUMENTS_MAX: Final = 16
"""Instruments of one box; their marks have to fit into the spool's snapshot (`agents.box.state`)."""
HOLES_MAX: Final = 2
"""Beyond that a record found after a crash does not count as accepted, and may be stored twice."""
DIGEST_BYTES: Final = 8
DIGESTS_MAX: Final = REPORTS_PER_POST_MAX
"""Remembered for each mark: an agent has one request in flight, and it may hold reports of one priority only."""


def digest_of(entry: bytes) -> bytes:
    """The digest of an encoded `Entry`, which includes the instrument, the run and the number."""
    return blake2b(entry, digest_size=DIGEST_BYTES).digest()


class HighWaterMark(msgspec.Struct, array_like=True):
    """Accepted: all numbers of `run` up to `number`, except those within `holes` (first, last).

    `digests` are those of the last accepted reports, concatenated, the newest last.
    """

    run: int = -1
    number: int = 0
    holes: list[tuple[int, int]] = []
    digests: bytes = b""

    def is_above(self, run: int, number: int) -> bool:
        """Whether no report of this number has been accepted in this run."""
        if run != self.run or number > self.number:
            return True
        return any(first <= number <= last for first, last in self.holes)

    def remembers(self, digest: bytes) -> bool:
        """Whether this very report is among the last accepted ones."""
        starts = range(0, len(self.digests), DIGEST_BYTES)
        return any(self.digests[start : start + DIGEST_BYTES] == digest for start in starts)

    def accept(self, run: int, number: int, digest: bytes) -> None:
        """Note that a report is durable."""
        if run != self.run or number > self.number:
            self.run, self.number, self.holes = run, number, []
        else:
            self.holes = [hole for hole in self.holes if number < hole[0]] + [
                (number + 1, last) for first, last in self.holes if first <= number < last
            ]
        self._remember(digest)

    def recall(self, run: int, number: int, digest: bytes, *, certain: bool) -> None:
        """Note a report found on the disk. Unless that is `certain`, those before it may be missing."""
        if certain:
            self.accept(run, number, digest)
            return
        number_before, holes = (self.number, self.holes) if run == self.run else (0, [])
        if number > number_before + 1:
            holes = [*holes, (number_before + 1, number - 1)]
        if number > number_before and len(holes) <= HOLES_MAX:
            self.run, self.number, self.holes = run, number, holes
            self._remember(digest)

    def _remember(self, digest: bytes) -> None:
        self.digests = (self.digests + digest)[-DIGESTS_MAX * DIGEST_BYTES :]


def new_marks() -> list[HighWaterMark]:
    """The marks of an instrument that has not reported yet, by `Priority`."""
    return [HighWaterMark() for _ in Priority]
