"""Replays the records of one end: checks them against the transition table, and finds the times of tunnels."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final

from wire.session.audit import AuditFile, SessionAuditRecord, SessionRecord
from wire.session.cose import GrantError, Keys
from wire.session.grant import Grant, SignedOffer, read_grant, read_offer
from wire.session.table import TABLE, WITH_TUNNEL, End, Row, SessionState

TOLERANCE_MS: Final = 1000
"""Maximum delay with which an end may notice its own deadline."""
S = SessionState
_TIMELY: Final = {
    End.DATA_CENTER: (*WITH_TUNNEL, S.ENDING),
    End.BOX: (S.AUTHORIZED, *WITH_TUNNEL, S.ENDING),
}
"""States that each end enters before the deadline. A grant that reaches the data center later opens no session."""


@dataclass
class SessionTrace:
    """One session according to the records of one end."""

    session: str
    end: End
    lines: list[SessionAuditRecord] = field(default_factory=list)
    offer: SignedOffer | None = None
    grant: Grant | None = None
    problems: list[str] = field(default_factory=list)

    def at(self, state: SessionState) -> SessionAuditRecord | None:
        """Return the first transition to a state."""
        return next((line for line in self.lines if line.record.state == state), None)

    @property
    def tunnel_ms(self) -> int:
        """The maximum time for which packets could pass at this end, in milliseconds."""
        opened = self.at(S.OPEN)
        if opened is None:
            return 0
        ending = self.at(S.ENDING)
        record = opened.record
        if ending is not None and ending.record.run == record.run:
            return ending.record.monotonic_ms - record.monotonic_ms
        return max(0, self.deadline_ms - record.monotonic_ms)  # the firewall's timeout in the kernel

    @property
    def deadline_ms(self) -> int:
        """The deadline on the monotonic clock of the run in which the end computed it."""
        return next((line.record.deadline_ms for line in self.lines if line.record.deadline_ms), 0)


class Replay:
    """The sessions of one audit file."""

    def __init__(self, audit: AuditFile, datacenter: Keys, box: Keys) -> None:
        self._datacenter = datacenter
        self._box = box
        self._end = audit.owner.end
        traces: dict[str, SessionTrace] = {}
        for line in audit.lines:
            if line.record.kind == "transition":
                session = line.record.session
                trace = traces.setdefault(session, SessionTrace(session, self._end))
                trace.lines.append(line)
        self.traces = traces
        for trace in traces.values():
            self._read_messages(trace)
            trace.problems += [*self._order(trace), *self._grant(trace), *self._times(trace)]

    def _read_messages(self, trace: SessionTrace) -> None:
        for line in trace.lines:
            record = line.record
            if not record.message:
                continue
            try:
                self._read_message(trace, record)
            except (GrantError, ValueError) as error:
                trace.problems.append(f"record {line.number}: the message of `{record.event}` {error}")

    def _read_message(self, trace: SessionTrace, record: SessionRecord) -> None:
        message = bytes.fromhex(record.message)
        if record.state == S.AUTHORIZED:
            trace.grant = read_grant(message, self._datacenter, self._box)
        elif record.state in (S.REQUESTED, S.OFFERED):
            trace.offer = read_offer(message, self._datacenter)

    def _order(self, trace: SessionTrace) -> Iterator[str]:
        """Yield an error for each transition that is not a row of the table."""
        state = S.NEW
        for line in trace.lines:
            record = line.record
            if not any(_is_row(row, self._end, state, record) for row in TABLE):
                yield (
                    f"record {line.number}: `{record.event}` by the {record.actor} does not lead from {state} to "
                    f"{record.state}{f' ({record.cause})' if record.cause else ''}"
                )
            if record.state not in set(S):
                return
            state = S(record.state)
        if state is not S.ENDED:
            yield f"has no end: the last state is {state}"

    def _grant(self, trace: SessionTrace) -> Iterator[str]:
        tunnel = next(filter(None, map(trace.at, WITH_TUNNEL)), None)
        if tunnel is None:
            return
        if trace.grant is None:
            yield f"record {tunnel.number}: had a tunnel without a grant"
            return
        if trace.grant.offer.id.hex() != trace.session:
            yield f"the grant is that of session {trace.grant.offer.id.hex()}"
        if trace.offer is None:
            yield "has no offer"
        elif trace.offer.hash != trace.grant.consent.offer_hash:
            yield "the grant is for another offer than the recorded one"

    def _times(self, trace: SessionTrace) -> Iterator[str]:
        first = trace.lines[0].record
        lifetime = trace.offer and (trace.offer.offer.expires - trace.offer.offer.issued) * 1000
        if not trace.deadline_ms:
            yield f"record {trace.lines[0].number}: has no deadline"
        elif (
            lifetime and not 0 < (after := trace.deadline_ms - first.monotonic_ms) <= lifetime + TOLERANCE_MS
        ):
            yield (
                f"record {trace.lines[0].number}: the deadline is {after} ms after the record; "
                f"the offer is valid for {lifetime} ms"
            )
        for previous, line in pairwise(trace.lines):
            record = line.record
            if (
                record.run != previous.record.run
                and record.event != "restarted"
                and previous.record.state != S.ENDING
            ):
                yield f"record {line.number}: continues in another run of the program without `restarted`"
        for previous, line in pairwise(trace.lines):
            record = line.record
            if record.run != first.run or record.state not in _TIMELY[self._end]:
                continue
            late = record.monotonic_ms - trace.deadline_ms
            advances = record.state != S.ENDING and record.state != previous.record.state
            if late > TOLERANCE_MS or (late >= 0 and advances):
                yield f"record {line.number}: {record.state} {late} ms after the deadline"


def _is_row(row: Row, end: End, state: SessionState, record: SessionRecord) -> bool:
    return (
        end in row.ends
        and state in row.states
        and record.event == row.event
        and record.actor in row.actors
        and record.state == row.next
        and record.cause == (row.cause or "")
    )
