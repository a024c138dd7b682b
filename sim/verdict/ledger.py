"""The record of each report of a lab: when it was made, acknowledged and stored, its sequence, and its content.

The ledger is kept beside the simulated world and never consulted by it. A report costs 41 bytes of it, so that a lab
of half a million reports still fits. The content is a 64-bit digest of what the instrument made, taken in the moment
it was made and compared with what is found at the end.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from functools import partial
from itertools import count, repeat
from typing import Final, NamedTuple

from settings.ranges import RangeSet
from sim.verdict.result import Priority

NEVER: Final = -1
UNKNOWN: Final = -1
"""A digest that was not taken, which differs from none. `digest_of` never gives it: no Python hash is -1."""
KINDS: Final = ("status", "inventory", "quality", "calibration", "alert", "result")
PRIORITIES: Final[dict[str, Priority]] = {"alert": "alert", "result": "audit"}


class LedgerEntry(NamedTuple):
    """One report; times in nanoseconds of lab time, NEVER where it did not come to that."""

    serial: str
    run: int
    number: int
    kind: str
    made_ns: int
    acknowledged_ns: int
    stored_ns: int
    sequence: int
    """Its sequence on the box as the data center stored it, or as it is on the box's disk; NEVER if in neither."""

    @property
    def priority(self) -> Priority:
        """The lane in which the box forwards it."""
        return PRIORITIES.get(self.kind, "routine")


def digest_of(kind: str, at_ms: int, body: bytes) -> int:
    """64 bits of a report's content: its kind and time as the store's columns have them, and its encoded body.

    Equal content has an equal digest within one process; the digest is of no use outside of it.
    """
    return hash((kind, at_ms, body))


class Run:
    """The reports of one run of one instrument's agent, numbered from 1."""

    def __init__(self, serial: str, run: int) -> None:
        self.serial, self.run = serial, run
        self._kind = bytearray()
        self._made = array("q")
        self._acknowledged = array("q")
        self._stored = array("q")
        self._sequence = array("q")
        self._digest = array("q")
        self.altered: dict[int, int] = {}
        """Numbers of the reports that were found with another content, each with the time at which it was stored."""
        self.copies = 0
        """How often a report was found at the data center that had been found there before."""
        self.ended_ns: int | None = None
        """When the agent's life ended, with all that it had not delivered."""
        self.given_up = RangeSet()
        """Numbers of the reports that the agent itself gave up."""

    def __len__(self) -> int:
        return len(self._made)

    def made(self, kind: str, now_ns: int, digest: int = UNKNOWN) -> None:
        """The next report was made."""
        self._kind.append(KINDS.index(kind))
        self._made.append(now_ns)
        self._digest.append(digest)
        for times in (self._acknowledged, self._stored, self._sequence):
            times.append(NEVER)

    @property
    def found_count(self) -> int:
        """How many of them were found, at the data center or on the box's disk."""
        return len(self) - self._sequence.count(NEVER)

    @property
    def acknowledgements(self) -> int:
        """How many of them the box has acknowledged."""
        return len(self) - self._acknowledged.count(NEVER)

    def acknowledged(self, number: int, now_ns: int) -> None:
        """The box has acknowledged this report."""
        self._acknowledged[number - 1] = now_ns

    def found(self, number: int, sequence: int, stored_ns: int = NEVER, digest: int = UNKNOWN) -> bool:
        """The report was found at the data center, or with no `stored_ns` on the box's disk.

        False if no such report was made.
        """
        at = number - 1
        if not 0 <= at < len(self._made):
            return False
        if self._stored[at] == NEVER:
            self._sequence[at] = sequence
            self._stored[at] = stored_ns
        elif stored_ns != NEVER:
            self.copies += 1
        if digest != self._digest[at] and UNKNOWN not in (digest, self._digest[at]):
            self.altered[number] = stored_ns
        return True

    def __iter__(self) -> Iterator[LedgerEntry]:
        kinds = map(KINDS.__getitem__, self._kind)
        names = (repeat(self.serial), repeat(self.run), count(1), kinds)
        times = (self._made, self._acknowledged, self._stored, self._sequence)
        fields = zip(*names, *times, strict=False)  # the first two never end
        return map(
            partial(tuple.__new__, LedgerEntry), fields
        )  # what `LedgerEntry._make` does, in half the time


class ReportLedger:
    """All runs of all instruments."""

    def __init__(self) -> None:
        self.runs: dict[tuple[str, int], Run] = {}
        self._continued: dict[tuple[str, int], Run] = {}
        self.unmade: list[str] = []
        """What was found and no instrument had made, in words."""

    def begin(self, serial: str, run: int) -> Run:
        """A new run of an instrument's agent."""
        assert (serial, run) not in self.runs
        self.runs[serial, run] = Run(serial, run)
        return self.runs[serial, run]

    def continues(self, run: Run, number: int) -> None:
        """The agent goes on with its reports under another run number, which the box demanded."""
        self._continued[run.serial, number] = run

    def found(
        self, serial: str, run: int, number: int, sequence: int, stored_ns: int = NEVER, digest: int = UNKNOWN
    ) -> None:
        """A report was found: see `Run.found`."""
        key = (serial, run)
        made = self.runs.get(key) or self._continued.get(key)
        if made is None or not made.found(number, sequence, stored_ns, digest):
            where = "on the box's disk" if stored_ns == NEVER else "at the data center"
            self.unmade.append(f"{serial} run {run} number {number}, sequence {sequence}, {where}")

    def __iter__(self) -> Iterator[LedgerEntry]:
        for run in self.runs.values():
            yield from run
