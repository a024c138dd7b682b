"""Verifies the audit files of both ends against each other: every second of tunnel must have had a valid grant.

It needs the two files and the public keys of both ends, and trusts neither end: a record must be in its end's chain,
follow the transition table, and agree with the other end's records. The clocks of the ends are never compared with
each other. Each end measures durations by its own monotonic clock, and the order of events at both ends follows from
messages: no message was received before it was sent.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from wire.hash_chain import ChainHead, chain_problems
from wire.session.audit import AuditFile, read_head
from wire.session.cose import GrantError, Keys
from wire.session.replay import Replay, SessionTrace
from wire.session.table import End, SessionState

S = SessionState
ROUNDING_MS: Final = 10
"""Times are rounded to milliseconds, and read a moment before or after the event."""
CLOCK_MS: Final = 2000
"""Maximum difference between a wall-clock time in a message and the time of the record that contains it."""
_DC_TO_BOX: Final = ((S.REQUESTED, S.OFFERED), (S.OPENING, S.OPENING), (S.OPENING, S.OPEN))
_BOX_TO_DC: Final = ((S.OFFERED, S.OFFERED), (S.AUTHORIZED, S.AUTHORIZED), (S.OPENING, S.OPEN))
"""States at the sender, with the states that follow from them at the receiver."""

_NEEDED: Final = {
    End.DATA_CENTER: {S.OFFERED: S.OFFERED, S.AUTHORIZED: S.AUTHORIZED, S.OPEN: S.OPENING},
    End.BOX: {S.OFFERED: S.REQUESTED, S.OPENING: S.OPENING},
}
"""For states of an end, the state that the other end must have reached before."""


@dataclass(frozen=True)
class SessionProof:
    """One session as both files show it."""

    session: str
    staff: str
    instrument: str
    tunnel_ms: int
    """The maximum time for which packets could pass, which requires both ends."""
    causes: tuple[str, ...]
    """Why it ended, according to the end that ended it first."""
    problems: tuple[str, ...]


@dataclass(frozen=True)
class AuditVerdict:
    """The result of verifying two audit files."""

    sessions: tuple[SessionProof, ...]
    problems: tuple[str, ...]
    """Problems of the files themselves."""

    @property
    def is_proven(self) -> bool:
        """Whether every second of tunnel had a valid grant."""
        return not self.problems and not any(session.problems for session in self.sessions)


@dataclass(frozen=True)
class _Both:
    """The traces of one session; an end without records has none."""

    datacenter: SessionTrace | None
    box: SessionTrace | None

    def traces(self) -> Iterator[SessionTrace]:
        yield from filter(None, (self.datacenter, self.box))


def verify_audits(
    datacenter: AuditFile, box: AuditFile, datacenter_keys: Keys, box_keys: Keys
) -> AuditVerdict:
    """Verify the audit files of the data center and of one box."""
    problems = [
        *_file_problems(datacenter, End.DATA_CENTER, box, datacenter_keys),
        *_file_problems(box, End.BOX, datacenter, box_keys),
    ]
    ends = [Replay(audit, datacenter_keys, box_keys) for audit in (datacenter, box)]
    at_dc, at_box = (replay.traces for replay in ends)
    serial = box.owner.name
    of_box = [session for session, trace in at_dc.items() if session in at_box or _is_for(trace, serial)]
    proofs = []
    for session in dict.fromkeys([*of_box, *at_box]):
        both = _Both(at_dc.get(session), at_box.get(session))
        proofs.append(_proof(session, both, datacenter.owner.name, serial))
    problems += [problem for replay in ends for problem in _overlaps(replay)]
    return AuditVerdict(tuple(proofs), tuple(problems))


def _is_for(trace: SessionTrace, serial: str) -> bool:
    """Return whether a session of the data center is with this box, or could be because its offer is unreadable."""
    return trace.offer is None or trace.offer.offer.box == serial


def _file_problems(audit: AuditFile, end: End, other: AuditFile, keys: Keys) -> Iterator[str]:
    """Verify one file's chain, with the heads of it that both ends have recorded."""
    if audit.owner.end is not end:
        yield f"the {end}'s file is one of the {audit.owner.end}"
        return
    known: list[ChainHead] = []
    for file, kind in ((audit, "head"), (other, "peer head")):
        for line in file.lines:
            if line.record.kind != kind:
                continue
            try:
                signed = read_head(bytes.fromhex(line.record.message), keys)
            except (GrantError, ValueError) as error:
                yield f"{file.owner.end}, record {line.number}: the head {error}"
                continue
            if signed.name == audit.owner.name:
                known.append(signed.head)
            elif file is audit:
                yield f"{file.owner.end}, record {line.number}: the head is that of {signed.name}"
    start = ChainHead(0, audit.start)
    last = ChainHead(audit.lines[-1].number, audit.lines[-1].hash) if audit.lines else start
    for problem in chain_problems(audit.lines, last, known, start):
        yield f"{end}: {problem}"
    for previous, line in pairwise(audit.lines):
        earlier_ms = previous.record.monotonic_ms - line.record.monotonic_ms
        if line.record.run == previous.record.run and earlier_ms > 0:
            yield f"{end}: record {line.number} is {earlier_ms} ms earlier than the previous one"


def _proof(session: str, both: _Both, datacenter: str, box: str) -> SessionProof:
    problems = [f"{trace.end}: {problem}" for trace in both.traces() for problem in trace.problems]
    problems += [*_names(both, datacenter, box), *_agreement(both), *_evidence_times(both), *_causality(both)]
    offer = next((trace.offer.offer for trace in both.traces() if trace.offer), None)
    return SessionProof(
        session,
        offer.staff if offer else "unknown",
        offer.instrument if offer else "unknown",
        min((trace.tunnel_ms for trace in both.traces()), default=0) if both.datacenter and both.box else 0,
        _causes(both),
        tuple(problems),
    )


def _names(both: _Both, datacenter: str, box: str) -> Iterator[str]:
    for trace in both.traces():
        if trace.offer and (trace.offer.offer.issuer, trace.offer.offer.box) != (datacenter, box):
            offer = trace.offer.offer
            yield f"{trace.end}: the offer is by {offer.issuer} for {offer.box}, not by {datacenter} for {box}"


def _agreement(both: _Both) -> Iterator[str]:
    """Yield actions of one end that the records of the other end do not permit."""
    for trace, other, end in (
        (both.datacenter, both.box, End.BOX),
        (both.box, both.datacenter, End.DATA_CENTER),
    ):
        if trace is None:
            continue
        for state, needed in _NEEDED[trace.end].items():
            if trace.at(state) and (other is None or not other.at(needed)):
                yield f"{state} at the {trace.end}, but the {end} has no record of {needed}"
    grants = {trace.grant.message for trace in both.traces() if trace.grant}
    if len(grants) > 1:
        yield "the ends have recorded different grants"


def _evidence_times(both: _Both) -> Iterator[str]:
    if both.datacenter and both.datacenter.offer:
        first = both.datacenter.lines[0].record
        issued_ms = both.datacenter.offer.offer.issued * 1000
        if abs(issued_ms - first.at_ms) > CLOCK_MS:
            yield f"data center: the offer was issued {abs(issued_ms - first.at_ms)} ms from its record"
    if not (both.box and both.box.grant and both.box.at(S.AUTHORIZED) and both.box.at(S.OFFERED)):
        return
    offered, authorized = (both.box.at(state).record for state in (S.OFFERED, S.AUTHORIZED))  # type: ignore[union-attr]
    jump = abs((authorized.at_ms - offered.at_ms) - (authorized.monotonic_ms - offered.monotonic_ms))
    for evidence in both.box.grant.consent.evidence:
        at_ms = evidence.at * 1000
        if not offered.at_ms - jump - CLOCK_MS <= at_ms <= authorized.at_ms + jump + CLOCK_MS:
            yield f"box: the evidence `{evidence.way}` is not from the time between offer and authorization"


def _causality(both: _Both) -> Iterator[str]:
    """Yield an error if the times of messages contradict each other.

    Each message bounds the difference of the ends' monotonic clocks; a value must satisfy all bounds.
    """
    if not (both.datacenter and both.box):
        return
    upper_bounds = [
        (received - sent, f"{at} at the box")
        for sent, received, at in _moments(both.datacenter, both.box, _DC_TO_BOX)
    ]
    lower_bounds = [
        (sent - received, f"{at} at the data center")
        for sent, received, at in _moments(both.box, both.datacenter, _BOX_TO_DC)
    ]
    if not (upper_bounds and lower_bounds):
        return
    (upper_ms, at_box), (lower_ms, at_dc) = min(upper_bounds), max(lower_bounds)
    if (gap_ms := lower_ms - upper_ms) > ROUNDING_MS:
        yield f"the ends contradict each other by {gap_ms} ms: {at_box}, or {at_dc}, came before its cause"


def _moments(
    sender: SessionTrace, receiver: SessionTrace, pairs: tuple[tuple[SessionState, SessionState], ...]
) -> Iterator[tuple[int, int, SessionState]]:
    for sent, received in pairs:
        first, second = sender.at(sent), receiver.at(received)
        in_first_runs = (
            first
            and second
            and first.record.run == sender.lines[0].record.run
            and second.record.run == receiver.lines[0].record.run
        )
        if first and second and in_first_runs:
            yield first.record.monotonic_ms, second.record.monotonic_ms, received


def _overlaps(replay: Replay) -> Iterator[str]:
    """Yield an error for two sessions of one box that had a tunnel at one end at the same time."""
    spans: dict[str, list[tuple[int, int, str]]] = {}
    for trace in replay.traces.values():
        opening, ended = trace.at(S.OPENING), trace.at(S.ENDED)
        if opening and trace.offer:
            last = ended.number if ended else trace.lines[-1].number
            offer = trace.offer.offer
            spans.setdefault(offer.box, []).append((opening.number, last, trace.session))
    for of_box in spans.values():
        of_box.sort()
        for (_, last, earlier), (first, _, later) in pairwise(of_box):
            if first < last:
                yield f"the sessions {earlier} and {later} had a tunnel of the same box at the same time"


_SECOND_HAND: Final = frozenset({"ended by the peer", "line lost", "restarted"})


def _causes(both: _Both) -> tuple[str, ...]:
    causes = [line.record.cause for trace in both.traces() if (line := trace.at(S.ENDING))]
    first_hand = [cause for cause in causes if cause not in _SECOND_HAND]
    return tuple(dict.fromkeys(first_hand or causes))
