"""What a lab knows of each report: when it was made, acknowledged and stored, and under which sequence.

The ledger is kept beside the simulated world and never consulted by it. Per report it costs 33 bytes, so that a lab
of half a million reports still fits.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from functools import partial
from itertools import count, repeat
from typing import Final, NamedTuple

from sim.result import Priority

NEVER: Final = -1
KINDS: Final = ("status", "inventory", "quality", "calibration", "alert", "result")
PRIORITIES: Final[dict[str, Priority]] = {"alert": "alert", "result": "audit"}


class Entry(NamedTuple):
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


class Run:
    """The reports of one run of one instrument's agent, numbered from 1."""

    def __init__(self, serial: str, run: int) -> None:
        self.serial, self.run = serial, run
        self._kind = bytearray()
        self._made = array("q")
        self._acknowledged = array("q")
        self._stored = array("q")
        self._sequence = array("q")

    def __len__(self) -> int:
        return len(self._made)

    def made(self, kind: str, now_ns: int) -> None:
        """The next report was made."""
        self._kind.append(KINDS.index(kind))
        self._made.append(now_ns)
        for times in (self._acknowledged, self._stored, self._sequence):
            times.append(NEVER)

    @property
    def acknowledgements(self) -> int:
        """How many of them the box has said that it has."""
        return len(self) - self._acknowledged.count(NEVER)

    def acknowledged(self, number: int, now_ns: int) -> None:
        """The box has said that it has this report."""
        self._acknowledged[number - 1] = now_ns

    def found(self, number: int, sequence: int, stored_ns: int = NEVER) -> None:
        """The report was found at the data center, or with no `stored_ns` on the box's disk."""
        if self._stored[number - 1] == NEVER:
            self._sequence[number - 1] = sequence
            self._stored[number - 1] = stored_ns

    def __iter__(self) -> Iterator[Entry]:
        kinds = map(KINDS.__getitem__, self._kind)
        names = (repeat(self.serial), repeat(self.run), count(1), kinds)
        times = (self._made, self._acknowledged, self._stored, self._sequence)
        fields = zip(*names, *times, strict=False)  # the first two never end
        return map(partial(tuple.__new__, Entry), fields)  # what `Entry._make` does, in half the time


class Ledger:
    """All runs of all instruments."""

    def __init__(self) -> None:
        self.runs: dict[tuple[str, int], Run] = {}

    def begin(self, serial: str, run: int) -> Run:
        """A new run of an instrument's agent."""
        assert (serial, run) not in self.runs
        self.runs[serial, run] = Run(serial, run)
        return self.runs[serial, run]

    def __iter__(self) -> Iterator[Entry]:
        for run in self.runs.values():
            yield from run
