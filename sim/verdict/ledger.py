"""The ledger of a lab's reports: when each was made, acknowledged and stored, its sequence number and its digest.

The simulator fills the ledger; the programs under test never read it. A report takes 41 bytes, so that a lab of half
a million reports fits into memory. The digest has 64 bits; it is taken when the instrument makes the report, and
compared with the content found at the end.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from functools import partial
from itertools import count, repeat
from typing import Final, NamedTuple

from settings.ranges import RangeSet
from sim.verdict.adapted import AdaptedReports
from sim.verdict.result import Priority
from wire.messages import InstrumentReport

NEVER: Final = -1
UNKNOWN: Final = -1
"""The value of a digest that was not taken; it matches any. `digest_of` never returns it: no Python hash is -1."""
KINDS: Final = ("status", "inventory", "quality", "calibration", "alert", "result", "step")
PRIORITIES: Final[dict[str, Priority]] = {"alert": "alert", "result": "audit", "step": "audit"}


class LedgerEntry(NamedTuple):
    """One report; times in nanoseconds of lab time, NEVER if the event did not occur."""

    serial: str
    run: int
    number: int
    kind: str
    made_ns: int
    acknowledged_ns: int
    stored_ns: int
    sequence: int
    """Its sequence number in the box's spool, as found at the data center or on the disk; NEVER if not found."""

    @property
    def priority(self) -> Priority:
        """The lane in which the box forwards it."""
        return PRIORITIES.get(self.kind, "routine")


def digest_of(kind: str, at_ms: int, body: bytes) -> int:
    """Return a 64-bit digest of a report's content: its kind, its time in ms since 1970, and its encoded body.

    Equal content has an equal digest within one process; digests of different processes cannot be compared.
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
        self.altered: set[int] = set()
        """The numbers of the reports found with different content."""
        self.copies = 0
        """The number of duplicates found at the data center."""
        self.ended_ns: int | None = None
        """The time at which the agent ended, and lost the reports that it had not delivered."""
        self.given_up = RangeSet()
        """The numbers of the reports that the agent itself dropped."""

    def __len__(self) -> int:
        return len(self._made)

    def made(self, kind: str, now_ns: int, digest: int = UNKNOWN) -> None:
        """Add the next report, which was made now."""
        self._kind.append(KINDS.index(kind))
        self._made.append(now_ns)
        self._digest.append(digest)
        for times in (self._acknowledged, self._stored, self._sequence):
            times.append(NEVER)

    @property
    def found_count(self) -> int:
        """The number of reports found at the data center or on the box's disk."""
        return len(self) - self._sequence.count(NEVER)

    @property
    def acknowledgements(self) -> int:
        """The number of reports that the box has acknowledged."""
        return len(self) - self._acknowledged.count(NEVER)

    def acknowledged(self, number: int, now_ns: int) -> None:
        """Record that the box has acknowledged a report."""
        self._acknowledged[number - 1] = now_ns

    def found(self, number: int, sequence: int, stored_ns: int = NEVER, digest: int = UNKNOWN) -> bool:
        """Record that a report was found at the data center or, without `stored_ns`, on the box's disk.

        Returns False if no such report was made.
        """
        index = number - 1
        if not 0 <= index < len(self._made):
            return False
        if self._stored[index] == NEVER:
            self._sequence[index] = sequence
            self._stored[index] = stored_ns
        elif stored_ns != NEVER:
            self.copies += 1
        if digest != self._digest[index] and UNKNOWN not in (digest, self._digest[index]):
            self.altered.add(number)
        return True

    def __iter__(self) -> Iterator[LedgerEntry]:
        kinds = map(KINDS.__getitem__, self._kind)
        names = (repeat(self.serial), repeat(self.run), count(1), kinds)
        times = (self._made, self._acknowledged, self._stored, self._sequence)
        fields = zip(*names, *times, strict=False)  # the first three never end
        return map(partial(tuple.__new__, LedgerEntry), fields)  # a faster `LedgerEntry._make`


class ReportLedger:
    """The reports of all runs of all instruments."""

    def __init__(self) -> None:
        self.runs: dict[tuple[str, int], Run] = {}
        self._continued: dict[tuple[str, int], Run] = {}
        self.adapted: dict[str, AdaptedReports] = {}
        """The reports of adapted instruments (which speak their own standard) by serial number."""
        self.unexpected: list[str] = []
        """Descriptions of reports that were found but that no instrument had made."""

    def begin(self, serial: str, run: int) -> Run:
        """Start a new run of an instrument's agent."""
        assert (serial, run) not in self.runs
        self.runs[serial, run] = Run(serial, run)
        return self.runs[serial, run]

    def begin_adapted(self, serial: str) -> AdaptedReports:
        """Add an instrument that speaks its own standard; all its reports in the lab belong to one run."""
        adapted = self.adapted[serial] = AdaptedReports(self.begin(serial, 1))
        return adapted

    def found_adapted(
        self, serial: str, run: int, body: InstrumentReport, sequence: int, stored_ns: int = NEVER
    ) -> None:
        """Record that a report of an instrument in `adapted` was found: see `AdaptedReports`."""
        if not self.adapted[serial].found(run, body, sequence, stored_ns):
            self._add_unexpected(f"{serial} {body}", sequence, stored_ns)

    def continues(self, run: Run, number: int) -> None:
        """Record that the agent continues `run` under another run number, as the box required."""
        self._continued[run.serial, number] = run

    def found(
        self, serial: str, run: int, number: int, sequence: int, stored_ns: int = NEVER, digest: int = UNKNOWN
    ) -> None:
        """Record that a report was found: see `Run.found`."""
        key = (serial, run)
        made = self.runs.get(key) or self._continued.get(key)
        if made is None or not made.found(number, sequence, stored_ns, digest):
            self._add_unexpected(f"{serial} run {run} number {number}", sequence, stored_ns)

    def _add_unexpected(self, report: str, sequence: int, stored_ns: int) -> None:
        location = "on the box's disk" if stored_ns == NEVER else "at the data center"
        self.unexpected.append(f"{report}, sequence {sequence}, {location}")

    def __iter__(self) -> Iterator[LedgerEntry]:
        for run in self.runs.values():
            yield from run
