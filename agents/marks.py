"""Which reports the box has already accepted: one high-water mark an instrument and priority.

An instrument whose acknowledgement got lost sends its reports again, and the box must not keep them twice. It sends
those of one priority by rising number and goes on only after an acknowledgement, so a mark (run, number) says all:
what is not above it has been accepted. Another run is another life of the agent, which begins anew at 1; it need not
be a higher one, because taking a clock's mistake for a repetition would lose reports.

The marks survive a crash as the spool's snapshot and the records after it. One thing can then stand below a mark and
still be missing: a report of the group that was being written when the power went, of which a later part reached the
disk and an earlier did not. Such numbers are the mark's *holes*; their reports were never acknowledged, come again
first, and are new.
"""

from __future__ import annotations

from typing import Final

import msgspec

from agents.spool import Priority, Recovered, Recovery
from wire.messages import Entry, MessageError, Report, decode

INSTRUMENTS_MAX: Final = 16
"""Instruments of one box; their marks have to fit into the spool's snapshot (4,096 bytes)."""
HOLES_MAX: Final = 2
"""Beyond that a record found after a crash does not count as accepted, and may be kept twice."""


class Mark(msgspec.Struct, array_like=True):
    """Accepted: all numbers of `run` up to `number`, except those within `holes` (first, last)."""

    run: int = -1
    number: int = 0
    holes: list[tuple[int, int]] = []

    def accepted(self, run: int, number: int) -> bool:
        """Whether this report has been accepted before."""
        if run != self.run or number > self.number:
            return False
        return not self.holes or all(not first <= number <= last for first, last in self.holes)

    def accept(self, run: int, number: int) -> None:
        """It is durable now."""
        if run != self.run or number > self.number:
            self.run, self.number, self.holes = run, number, []
        else:
            self.holes = [hole for hole in self.holes if number < hole[0]] + [
                (number + 1, last) for first, last in self.holes if first <= number < last
            ]

    def recall(self, run: int, number: int, *, certain: bool) -> None:
        """It was found on the disk; if that is not `certain`, what it follows may not be there."""
        if certain:
            self.accept(run, number)
            return
        number_before, holes = (self.number, self.holes) if run == self.run else (0, [])
        if number > number_before + 1:
            holes = [*holes, (number_before + 1, number - 1)]
        if number > number_before and len(holes) <= HOLES_MAX:
            self.run, self.number, self.holes = run, number, holes


_Marks = dict[str, list[Mark]]


class Marks:
    """The marks of all instruments, three each, by `Priority`."""

    def __init__(self) -> None:
        self._marks: _Marks = {}

    def of(self, instrument: str) -> list[Mark]:
        """The instrument's marks by priority; they are its own, not a copy."""
        marks = self._marks.get(instrument)
        if marks is None:
            marks = self._marks[instrument] = [Mark() for _ in Priority]
        return marks

    def snapshot(self) -> bytes:
        """All of it, for `restore`; one step that no other thread can come between."""
        return msgspec.msgpack.encode(self._marks)

    def restore(self, recovery: Recovery, instruments: set[str]) -> None:
        """Take over what the spool kept. Instruments that are not enrolled any more are forgotten."""
        if recovery.snapshot:
            self._marks = msgspec.msgpack.decode(recovery.snapshot, type=_Marks)
        for record in recovery.records():
            self._recall(record)
        self._marks = {name: marks for name, marks in self._marks.items() if name in instruments}

    def _recall(self, record: Recovered) -> None:
        try:
            entry = decode(Entry, record.payload)
        except MessageError:  # written by a program with other words; the data center will judge it
            return
        if entry.instrument and isinstance(entry.body, Report):
            mark = self.of(entry.instrument)[record.priority]
            mark.recall(entry.run, entry.body.number, certain=record.certain)
