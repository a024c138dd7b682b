"""The state that the box keeps beside its records: high-water marks, and which commands were started and finished.

It survives a crash as the spool's snapshot and the records after it. Records that were delivered and reclaimed before
the last snapshot are not needed: the snapshot covers them.
"""

from __future__ import annotations

from typing import Final

import msgspec

from agents.box.commands import History
from agents.box.intake.high_water_marks import HighWaterMark, digest_of, new_marks
from agents.spool import Recovered, RecoveredSpool
from wire.audit_events import AuditEvent
from wire.messages import Audit, CommandResult, Entry, MessageError, Report, decode

SNAPSHOT_BYTES_MAX: Final = 96 * 1024
"""At INSTRUMENTS_MAX, with all marks and histories full. It begins each segment of 4 MiB."""

_Marks = dict[str, list[HighWaterMark]]


class _Snapshot(msgspec.Struct, array_like=True):
    marks: _Marks
    histories: dict[str, History]
    confirmed_s: int = 0


class BoxState:
    """Marks and command histories by instrument, where "" is the box's own history; and the last confirmed time."""

    def __init__(self) -> None:
        self._saved = _Snapshot({}, {})

    def marks(self, instrument: str) -> list[HighWaterMark]:
        """The instrument's marks by priority: the objects themselves, not copies."""
        marks = self._saved.marks.get(instrument)
        if marks is None:
            marks = self._saved.marks[instrument] = new_marks()
        return marks

    def history(self, instrument: str) -> History:
        """The instrument's commands, or the box's own: the object itself, not a copy."""
        history = self._saved.histories.get(instrument)
        if history is None:
            history = self._saved.histories[instrument] = History()
        return history

    @property
    def confirmed_s(self) -> int:
        """The last time that the data center confirmed, in seconds since 1970; 0: none yet."""
        return self._saved.confirmed_s

    @confirmed_s.setter
    def confirmed_s(self, seconds: int) -> None:
        self._saved.confirmed_s = seconds

    def snapshot(self) -> bytes:
        """All of it, for `restore`; one step that no other thread can interrupt."""
        return msgspec.msgpack.encode(self._saved)

    def restore(self, recovery: RecoveredSpool, instruments: set[str]) -> None:
        """Load what the spool kept. Instruments that are no longer enrolled are forgotten."""
        if recovery.snapshot:
            saved = msgspec.msgpack.decode(recovery.snapshot, type=_Snapshot | _Marks)
            # an earlier release saved the marks alone
            self._saved = saved if isinstance(saved, _Snapshot) else _Snapshot(saved, {})
        for record in recovery.records():
            self._recall(record)
        self._forget_all_but(instruments)

    def _recall(self, record: Recovered) -> None:
        try:
            entry = decode(Entry, record.payload)
        except MessageError:  # written by a program with other words; the data center will judge it
            return
        body = entry.body
        if entry.instrument and isinstance(body, Report):
            mark = self.marks(entry.instrument)[record.priority]
            mark.recall(entry.run, body.number, digest_of(record.payload), certain=record.certain)
        if isinstance(body, CommandResult):
            self.history(entry.instrument).finish(body.command)
        elif isinstance(body, Audit) and body.event == AuditEvent.COMMAND_STARTED:
            self.history("").start(body.value)
        elif isinstance(body, Audit) and body.event == AuditEvent.TIME_CONFIRMED:
            self.confirmed_s = body.value

    def _forget_all_but(self, instruments: set[str]) -> None:
        saved = self._saved
        saved.marks = {name: marks for name, marks in saved.marks.items() if name in instruments}
        saved.histories = {n: history for n, history in saved.histories.items() if not n or n in instruments}
