"""Persistent state of the box: high-water marks, started and finished commands, and the last confirmed time.

After a crash it is restored from the spool's last snapshot and the records appended after it.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

import msgspec

from agents.box.audit.chain import AuditHead
from agents.box.audit.log_cursor import SESSIONS, SYSTEM, LogCursor
from agents.box.commands import CommandHistory
from agents.box.intake.high_water_marks import (
    AdaptedMark,
    HighWaterMark,
    digest_of,
    new_marks,
    stripped_digest_of,
)
from agents.spool import Recovered, RecoveredSpool
from wire.audit_events import AuditEvent
from wire.messages import (
    Audit,
    CommandResult,
    CommandStep,
    Entry,
    LogLine,
    MessageError,
    ProfileInForce,
    Report,
    decode,
)

SNAPSHOT_BYTES_MAX: Final = 112 * 1024
"""Enough for INSTRUMENTS_MAX instruments, full histories and many log files. Each segment of 4 MiB begins with a
snapshot."""

_Marks = dict[str, list[HighWaterMark]]


class _Snapshot(msgspec.Struct, array_like=True):
    marks: _Marks
    histories: dict[str, CommandHistory]
    confirmed_s: int = 0
    profiles: dict[str, tuple[str, int]] = {}
    adapted: dict[str, AdaptedMark] = {}
    audit: AuditHead = msgspec.field(default_factory=AuditHead)
    logs: dict[str, LogCursor] = {}
    ports: dict[str, int] = {}


class BoxState:
    """High-water marks, profiles and command histories by instrument ("": the box), and the last confirmed time."""

    def __init__(self) -> None:
        self._saved = _Snapshot({}, {})

    def marks(self, instrument: str) -> list[HighWaterMark]:
        """Return the instrument's high-water marks by priority; not copies."""
        marks = self._saved.marks.get(instrument)
        if marks is None:
            marks = self._saved.marks[instrument] = new_marks()
        return marks

    def adapted_mark(self, instrument: str) -> AdaptedMark:
        """Return the mark of an instrument that speaks its own standard; not a copy."""
        mark = self._saved.adapted.get(instrument)
        if mark is None:
            mark = self._saved.adapted[instrument] = AdaptedMark()
        return mark

    def history(self, instrument: str) -> CommandHistory:
        """Return the command history of an instrument, or of the box for ""; not a copy."""
        history = self._saved.histories.get(instrument)
        if history is None:
            history = self._saved.histories[instrument] = CommandHistory()
        return history

    @property
    def confirmed_s(self) -> int:
        """The last time confirmed by the data center, in seconds since 1970; 0: none yet."""
        return self._saved.confirmed_s

    @confirmed_s.setter
    def confirmed_s(self, seconds: int) -> None:
        self._saved.confirmed_s = seconds

    @property
    def audit_head(self) -> AuditHead:
        """The head of the chain of audit records; not a copy."""
        return self._saved.audit

    def log_cursor(self, source: str) -> LogCursor:
        """Return the cursor of a log whose lines are sent with the audit records; not a copy."""
        cursor = self._saved.logs.get(source)
        if cursor is None:
            cursor = self._saved.logs[source] = LogCursor()
        return cursor

    def recorded_profile(self, instrument: str) -> tuple[str, int, int] | None:
        """Return the model and version of an instrument's last recorded profile, and its port; None without one."""
        saved = self._saved.profiles.get(instrument)
        return (*saved, self._saved.ports.get(instrument, 0)) if saved else None

    def set_recorded_profile(self, instrument: str, model: str, version: int, port: int) -> None:
        """Set the model and version of an instrument's last recorded profile, and its port."""
        self._saved.profiles[instrument] = model, version
        self._saved.ports[instrument] = port

    def snapshot(self) -> bytes:
        """Encode the state for `restore`, in one step that no other thread can interrupt."""
        return msgspec.msgpack.encode(self._saved)

    def restore(
        self,
        recovery: RecoveredSpool,
        instruments: set[str],
        adapted: frozenset[str] = frozenset(),
        ports: Mapping[int, str] = MappingProxyType({}),
    ) -> None:
        """Restore the state from the spool. Instruments that are no longer enrolled are removed.

        `adapted` are the serial numbers of those that speak their own standard; `ports` maps the numbers of their
        ports to their serial numbers.
        """
        if recovery.snapshot:
            saved = msgspec.msgpack.decode(recovery.snapshot, type=_Snapshot | _Marks)
            # an earlier release saved only the marks
            self._saved = saved if isinstance(saved, _Snapshot) else _Snapshot(saved, {})
        for record in recovery.records():
            self._restore_record(record, adapted, ports)
        self._keep_only(instruments)

    def _restore_record(self, record: Recovered, adapted: frozenset[str], ports: Mapping[int, str]) -> None:
        try:
            entry = decode(Entry, record.payload)
        except MessageError:  # written by another program version; the data center decides about it
            return
        body = entry.body
        if entry.link is not None and not self._saved.audit.accept(record.payload, entry.link):
            for source in (SYSTEM, SESSIONS):
                self.log_cursor(source).is_incomplete = True
        if isinstance(body, LogLine):
            self.log_cursor(body.source).accept(body.file, body.offset, body.content)
        elif isinstance(body, Audit) and body.event == AuditEvent.AUDIT_LOG_REPEATED:
            self.log_cursor(SYSTEM).is_incomplete = False
        elif isinstance(body, Audit) and body.event == AuditEvent.SESSION_LOG_REPEATED:
            self.log_cursor(SESSIONS).is_incomplete = False
        if entry.instrument in adapted and isinstance(body, Report):
            adapted_mark = self.adapted_mark(entry.instrument)
            adapted_mark.accept(entry.run, body.number, [stripped_digest_of(body)])
            if not isinstance(body, CommandResult):
                adapted_mark.restore_last(body)
        elif entry.instrument and isinstance(body, Report):
            mark = self.marks(entry.instrument)[record.priority]
            mark.restore(entry.run, body.number, digest_of(record.payload), certain=record.certain)
        if isinstance(body, CommandResult):
            self.history(entry.instrument).finish(body.command)
        elif isinstance(body, CommandStep) and body.step == "executing":
            if body.command not in self.history("").finished:  # not withdrawn before
                self.history(entry.instrument).start(body.command)
        elif isinstance(body, Audit) and body.event == AuditEvent.COMMAND_STARTED:
            if body.port == 0 or body.port in ports:
                self.history(ports.get(body.port, "")).start(body.value)
        elif isinstance(body, Audit) and body.event == AuditEvent.CONTROL_ANSWERED:
            if body.port in ports:
                self.adapted_mark(ports[body.port]).answered = True
        elif isinstance(body, Audit) and body.event == AuditEvent.TIME_CONFIRMED:
            self.confirmed_s = body.value
        elif isinstance(body, ProfileInForce):
            self.set_recorded_profile(body.instrument, body.model, body.version, body.port)

    def _keep_only(self, instruments: set[str]) -> None:
        saved = self._saved
        saved.marks = {name: marks for name, marks in saved.marks.items() if name in instruments}
        saved.adapted = {name: mark for name, mark in saved.adapted.items() if name in instruments}
        saved.profiles = {name: used for name, used in saved.profiles.items() if name in instruments}
        saved.ports = {name: port for name, port in saved.ports.items() if name in instruments}
        saved.histories = {n: history for n, history in saved.histories.items() if not n or n in instruments}
