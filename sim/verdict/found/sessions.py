"""The remote sessions of a lab's run, from the audit files of both ends and the simulator's ground truth."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from sim.lab.sessions import LabSession
from sim.units import MILLISECOND_NS
from sim.verdict.result import SessionResult, SessionStep
from wire.messages import LogLine
from wire.session.audit import AuditFile, AuditFileError, SessionRecord, parse_audit
from wire.session.cose import Keys
from wire.session.table import End, SessionState
from wire.session.verify import AuditVerdict, SessionProof, verify_audits


@dataclass
class RequestedSession:
    """A session that a staff member has requested, with the simulator's records of it."""

    spec: LabSession
    serial: str
    """The serial number of the instrument."""
    requested_ns: int
    id: bytes = b""
    """Empty if the data center has refused the request."""
    is_permitted: bool = False
    """Whether the person has entered the right code."""
    desktop: list[str] = field(default_factory=list)
    """Errors of the desktop, such as a key that remained pressed."""


@dataclass(frozen=True)
class SessionAudits:
    """The audit files of both ends after a lab, and the public keys to verify them with."""

    datacenter: bytes
    box: bytes
    sent: Sequence[LogLine]
    """The lines of the box's file that the data center has stored as audit records, sorted by their offsets."""
    datacenter_keys: Keys
    box_keys: Keys
    lab_ns: Callable[[End, SessionRecord], int]
    """Returns the lab time of a record of an end."""

    def read(self, requested: Sequence[RequestedSession]) -> SessionFindings:
        """Verify the files, and return their findings about the requested sessions."""
        try:
            datacenter, box = parse_audit(self.datacenter), parse_audit(self.box)
        except AuditFileError as error:
            return SessionFindings((), (f"an audit file cannot be read: {error}",))
        verdict = verify_audits(datacenter, box, self.datacenter_keys, self.box_keys)
        results = tuple(self._result(request, verdict, (datacenter, box)) for request in requested)
        return SessionFindings(results, (*verdict.problems, *self._changed_lines()))

    def _changed_lines(self) -> list[str]:
        """Describe the lines that differ between the data center and the box."""
        return [
            f"the data center's audit records of sessions differ from the box's file at byte {line.offset}"
            for line in self.sent
            if self.box[line.offset : line.offset + len(line.content)] != line.content
        ]

    @cached_property
    def _records_sent(self) -> int:
        """The number of the box's records whose lines have reached the data center without a gap."""
        offset, ends = 0, 0
        for line in self.sent:
            if line.offset == offset:
                offset += len(line.content)
                ends += line.content.count(b"\n")
        return max(ends - 1, 0)  # the first line names the file's owner

    def _result(
        self, request: RequestedSession, verdict: AuditVerdict, files: Sequence[AuditFile]
    ) -> SessionResult:
        session = request.id.hex()
        proof = next((proof for proof in verdict.sessions if proof.session == session), None)
        steps = [step for file in files for step in self._steps(file, session)]
        steps.sort(key=lambda step: step.at_ns)
        spec, problems = request.spec, list(proof.problems if proof else ())
        if proof is not None and proof.tunnel_ms and not request.is_permitted:
            problems.append("packets could pass although the person at the instrument had not permitted it")
        return SessionResult(
            instrument=request.serial,
            staff=spec.staff,
            role=spec.role,
            mode=spec.mode,
            person=spec.person,
            requested_ns=request.requested_ns,
            opened_ns=_reached(steps, SessionState.OPEN),
            ended_ns=_last_end(steps),
            tunnel_seconds=(proof.tunnel_ms if proof else 0) / 1000,
            causes=_causes(proof, steps),
            expected_to_open=spec.expected_to_open,
            expected_end=spec.expected_end,
            problems=tuple(problems),
            desktop=tuple(request.desktop),
            steps=tuple(steps),
        )

    def _steps(self, file: AuditFile, session: str) -> list[SessionStep]:
        end = file.owner.end
        sent = self._records_sent if end is End.BOX else 0
        return [
            SessionStep(
                at_ns=self.lab_ns(end, line.record),
                end=end.value,
                event=line.record.event or "refused",
                actor=line.record.actor,
                state=line.record.state,
                cause=line.record.cause,
                is_sent=index < sent,
            )
            for index, line in enumerate(file.lines)
            if line.record.session == session and line.record.kind in ("transition", "refusal")
        ]


@dataclass(frozen=True)
class SessionFindings:
    """The sessions of a run, and problems of the audit files themselves."""

    sessions: Sequence[SessionResult] = ()
    problems: Sequence[str] = ()


def _causes(proof: SessionProof | None, steps: Sequence[SessionStep]) -> tuple[str, ...]:
    if proof is not None:
        return proof.causes
    return tuple(step.cause for step in steps if step.state == SessionState.ENDING)


def _reached(steps: Sequence[SessionStep], state: SessionState) -> int | None:
    """Return when the later end reached the state; None if an end has not."""
    reached = {step.end: step.at_ns for step in reversed(steps) if step.state == state}
    return max(reached.values()) if len(reached) == len(End) else None


def _last_end(steps: Sequence[SessionStep]) -> int | None:
    """Return when every end that knew the session had ended it."""
    ended = {step.end: step.at_ns for step in steps if step.state == SessionState.ENDED}
    known = {step.end for step in steps if step.state}
    return max(ended.values()) if known and known == set(ended) else None


def by_monotonic_clocks(start_ms: int) -> Callable[[End, SessionRecord], int]:
    """Return a `SessionAudits.lab_ns` for ends whose monotonic clocks showed `start_ms` at the start of the lab."""
    return lambda _end, record: (record.monotonic_ms - start_ms) * MILLISECOND_NS


def by_wall_clocks(start_ms: int) -> Callable[[End, SessionRecord], int]:
    """Return a `SessionAudits.lab_ns` for ends whose wall clocks showed `start_ms` at the start of the lab."""
    return lambda _end, record: (record.at_ms - start_ms) * MILLISECOND_NS
