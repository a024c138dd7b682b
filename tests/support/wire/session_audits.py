"""Audit files of both ends of sessions, as the ends write them, or with changes by a test."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Final, TypeAlias

import msgspec

from tests.support.wire.grants import BOX, BOX_KEYS, DATACENTER, DATACENTER_KEYS, ISSUED, OFFER, granted
from wire.hash_chain import ChainHead
from wire.session.audit import (
    AuditOwner,
    SessionRecord,
    owner_line,
    parse_audit,
    record_line,
    sign_head,
    start_hash,
)
from wire.session.grant import Offer, PresenceEvidence, PresenceWay, sign_offer
from wire.session.table import End
from wire.session.verify import AuditVerdict, verify_audits

DC_NAME, BOX_NAME = OFFER.issuer, OFFER.box
STARTS_MS: Final = {"dc": 5_000_000, "box": 40_000}
"""The monotonic clocks of both ends when the first offer is issued: they are unrelated."""
OWNERS: Final = {"dc": AuditOwner(End.DATA_CENTER, DC_NAME), "box": AuditOwner(End.BOX, BOX_NAME)}
KEYS: Final = {"dc": DATACENTER, "box": BOX}

Step: TypeAlias = tuple[str, int, str, str, str, str]

STEPS: Final[tuple[Step, ...]] = (
    # end, seconds after the offer, event, actor, state, cause
    ("dc", 0, "request", "data center", "requested", ""),
    ("box", 1, "offer received", "data center", "offered", ""),
    ("dc", 2, "offer shown", "box", "offered", ""),
    ("box", 60, "authorize", "person", "authorized", ""),
    ("dc", 61, "grant received", "box", "authorized", ""),
    ("dc", 62, "open requested", "data center", "opening", ""),
    ("box", 63, "certificate received", "data center", "opening", ""),
    ("dc", 64, "tunnel up", "line", "open", ""),
    ("box", 64, "tunnel up", "line", "open", ""),
    ("box", 664, "person ends", "person", "ending", "ended by the person"),
    ("box", 664, "closed", "box", "ended", ""),
    ("dc", 665, "peer ended", "box", "ending", "ended by the peer"),
    ("dc", 665, "closed", "data center", "ended", ""),
)
"""A session of ten minutes."""


@dataclass
class Audits:
    """The records of both ends before they are chained, by the end's name."""

    records: dict[str, list[SessionRecord]] = field(default_factory=lambda: {"dc": [], "box": []})

    def add(self, offer: Offer = OFFER, steps: Iterable[Step] = STEPS, skew_ms: int = 0) -> Audits:
        """Add a session; `skew_ms` is how far the wall clock of the box is ahead."""
        shift = offer.issued - ISSUED
        evidence = tuple(
            PresenceEvidence(way, source, offer.issued + seconds + skew_ms // 1000)
            for way, source, seconds in (
                (PresenceWay.CODE, "page at port 2", 58),
                (PresenceWay.SWITCH, "switch 1", 60),
            )
        )
        signed, grant = sign_offer(offer, DATACENTER), None
        for end, seconds, event, actor, state, cause in steps:
            message = b""
            if (end, state) in (("dc", "requested"), ("box", "offered")):
                message = signed
            elif state == "authorized":
                message = grant = grant or granted(signed, evidence)
            start, monotonic_ms = STARTS_MS[end], STARTS_MS[end] + (shift + seconds) * 1000
            self.records[end].append(
                SessionRecord(
                    at_ms=(offer.issued + seconds) * 1000 + (skew_ms if end == "box" else 0),
                    monotonic_ms=monotonic_ms,
                    run="1",
                    kind="transition",
                    session=offer.id.hex(),
                    event=event,
                    actor=actor,
                    state=state,
                    cause=cause,
                    deadline_ms=start + (shift + offer.expires - offer.issued) * 1000
                    if message is signed
                    else 0,
                    message=message.hex(),
                )
            )
            if state in ("open", "ended"):
                self.records[end].append(SessionRecord(0, monotonic_ms, "1", "head"))
                other = "box" if end == "dc" else "dc"
                received_ms = STARTS_MS[other] + (shift + seconds) * 1000
                self.records[other].append(SessionRecord(0, received_ms, "1", "peer head"))
        return self

    def change(self, end: str, state: str, **changes: object) -> Audits:
        """Change the first record of a state at an end, before it is chained: the end itself writes falsely."""
        records = self.records[end]
        index = next(number for number, record in enumerate(records) if record.state == state)
        records[index] = msgspec.structs.replace(records[index], **changes)
        return self

    def remove(self, end: str, *states: str) -> Audits:
        """Remove the records of some states at an end, before they are chained."""
        self.records[end] = [record for record in self.records[end] if record.state not in states]
        return self

    def interleave(self) -> Audits:
        """Sort the records of several sessions by time."""
        for records in self.records.values():
            records.sort(key=lambda record: record.monotonic_ms)
        return self

    def files(self) -> dict[str, bytes]:
        """Return the contents of both files."""
        lines = {name: [owner_line(owner)] for name, owner in OWNERS.items()}
        heads = {name: ChainHead(0, start_hash(lines[name][0])) for name in OWNERS}
        sent: dict[str, list[bytes]] = {"dc": [], "box": []}
        waiting = {name: list(records) for name, records in self.records.items()}
        while any(waiting.values()):
            progress = False
            for name, other in (("dc", "box"), ("box", "dc")):
                while waiting[name]:
                    record = waiting[name][0]
                    if record.kind == "head":
                        message = sign_head(OWNERS[name].name, heads[name], KEYS[name])
                        sent[name].append(message)
                        record = msgspec.structs.replace(record, message=message.hex())
                    elif record.kind == "peer head":
                        if not sent[other]:
                            break
                        record = msgspec.structs.replace(record, message=sent[other].pop(0).hex())
                    line, heads[name] = record_line(heads[name], record)
                    lines[name].append(line)
                    del waiting[name][0]
                    progress = True
            assert progress
        return {name: b"".join(written) for name, written in lines.items()}


def verdict(files: dict[str, bytes]) -> AuditVerdict:
    """Verify two files."""
    dc, box = parse_audit(files["dc"]), parse_audit(files["box"])
    return verify_audits(dc, box, DATACENTER_KEYS, BOX_KEYS)


def problems_of(files: dict[str, bytes]) -> list[str]:
    """Return every problem of two files."""
    result = verdict(files)
    return [*result.problems, *(problem for session in result.sessions for problem in session.problems)]


def later(offer: Offer, seconds: int, number: int) -> Offer:
    """Return an offer like another one, with another id, some seconds later."""
    return replace(
        offer, id=bytes([number]) * 16, issued=offer.issued + seconds, expires=offer.expires + seconds
    )


def rechained(content: bytes, change: Callable[[list[SessionRecord]], object]) -> bytes:
    """Return a file whose records were changed by somebody who can compute hashes, but has no key."""
    audit = parse_audit(content)
    records = [line.record for line in audit.lines]
    change(records)
    first = content.splitlines(keepends=True)[0]
    lines, head = [first], ChainHead(0, audit.start)
    for record in records:
        line, head = record_line(head, record)
        lines.append(line)
    return b"".join(lines)
