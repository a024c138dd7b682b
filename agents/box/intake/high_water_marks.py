"""High-water marks: which reports of each instrument the box has already accepted, by priority.

An instrument whose acknowledgement was lost repeats its reports, and the box must not store them twice. It sends the
reports of one priority by rising number and continues only after an acknowledgement. A mark (run, number) and the
digests of the last DIGESTS_MAX accepted reports therefore identify every duplicate: its number is not above the mark,
and its digest is one of these. A number that is not above the mark with another digest is a different report, from an
agent that restarted with the same run. It must be refused, because acknowledging it would lose it.

Each start of the agent uses a higher run number than the previous start, and numbers its reports from 1.

After a crash the marks are restored from the spool's snapshot and the records after it. If the power failed during
the write of a group, later reports of the group may be on the disk while earlier ones are missing. The numbers of the
missing ones are the *holes* of the mark. They were never acknowledged, so the instrument sends them again, and they
are accepted as new.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from hashlib import blake2b
from typing import Final

import msgspec
from msgspec.structs import replace

from agents.spool import Priority
from wire.messages import REPORTS_PER_POST_MAX, InstrumentReport, Quality, encode
from wire.standards.extract import Finding

HOLES_MAX: Final = 2
"""A record found after a crash that would need more holes is not marked as accepted, and may be stored twice."""
DIGEST_BYTES: Final = 8
DIGESTS_MAX: Final = REPORTS_PER_POST_MAX
"""Digests per mark: those of one request, because an agent has one in flight, perhaps all of one priority."""
ADAPTED_DIGESTS_MAX: Final = 256
"""Digests per instrument that speaks its own standard, and the maximum number of reports of one message."""


def digest_of(encoded: bytes) -> bytes:
    """Return the digest of an encoded message. An `Entry`'s digest includes instrument, run and number."""
    return blake2b(encoded, digest_size=DIGEST_BYTES).digest()


class HighWaterMark(msgspec.Struct, array_like=True):
    """High-water mark: all numbers of `run` up to `number` are accepted, except the ranges `holes` (first, last).

    `digests` is the concatenation of the digests of the last accepted reports, the newest last.
    """

    run: int = -1
    number: int = 0
    holes: list[tuple[int, int]] = []
    digests: bytes = b""

    def is_above(self, run: int, number: int) -> bool:
        """Return whether no report with this number has been accepted in this run."""
        if run != self.run or number > self.number:
            return True
        return any(first <= number <= last for first, last in self.holes)

    def contains(self, digest: bytes) -> bool:
        """Return whether the report with this digest is one of the last accepted ones."""
        return digest in _divide(self.digests)

    def accept(self, run: int, number: int, digest: bytes) -> None:
        """Move the mark for a durable report."""
        if run != self.run or number > self.number:
            self.run, self.number, self.holes = run, number, []
        else:
            self.holes = [hole for hole in self.holes if number < hole[0]] + [
                (number + 1, last) for first, last in self.holes if first <= number < last
            ]
        self._add_digest(digest)

    def restore(self, run: int, number: int, digest: bytes, *, certain: bool) -> None:
        """Move the mark for a report found on the disk. Unless `certain`, earlier reports may be missing."""
        if certain:
            self.accept(run, number, digest)
            return
        number_before, holes = (self.number, self.holes) if run == self.run else (0, [])
        if number > number_before + 1:
            holes = [*holes, (number_before + 1, number - 1)]
        if number > number_before and len(holes) <= HOLES_MAX:
            self.run, self.number, self.holes = run, number, holes
            self._add_digest(digest)

    def _add_digest(self, digest: bytes) -> None:
        self.digests = (self.digests + digest)[-DIGESTS_MAX * DIGEST_BYTES :]


def new_marks() -> list[HighWaterMark]:
    """Return the marks of an instrument that has not reported yet, by `Priority`."""
    return [HighWaterMark() for _ in Priority]


def stripped_digest(finding: Finding) -> bytes:
    """Return the digest of a report without its number: kind, fields and the instrument's time."""
    return digest_of(encode(finding.kind(1, finding.at_ms or 0, *finding.fields)))


def stripped_digest_of(body: InstrumentReport) -> bytes:
    """Return the `stripped_digest` of a stored report whose time is the instrument's."""
    return digest_of(encode(replace(body, number=1)))


def untimed_digest(body: InstrumentReport) -> bytes:
    """Return the digest of a report without its number and time."""
    return digest_of(encode(replace(body, number=1, at_ms=0)))


def _divide(digests: bytes) -> list[bytes]:
    return [digests[start : start + DIGEST_BYTES] for start in range(0, len(digests), DIGEST_BYTES)]


def _unmatched(digests: list[bytes], known: Counter[bytes]) -> list[int]:
    """Return the indices of digests that are not among `known`, by multiplicity; empty ones are always unknown."""
    indexes = []
    for index, digest in enumerate(digests):
        if known[digest] > 0:
            known[digest] -= 1
        else:
            indexes.append(index)
    return indexes


class AdaptedMark(msgspec.Struct, array_like=True):
    """The last number of an instrument that speaks its own standard, and the digests of its last reports.

    The box numbers these reports. An instrument that missed the acknowledgement repeats its message; the repetition
    is recognized by the reports without their numbers, never by the message, which may contain a name.
    """

    run: int = -1
    number: int = 0
    digests: bytes = b""
    last_ms: int = 0
    last: bytes = b""
    """Digests, without times, of the reports of the last message, if it has a control and was stored with the box's
    time `last_ms`."""
    answered: bool = True
    """Whether that message was certainly answered, so that it will not be repeated."""

    def store_last(self, bodies: Sequence[InstrumentReport]) -> None:
        """Record the reports of a message that were stored with the box's time; none if the message has times."""
        self.last_ms = bodies[0].at_ms if bodies else 0
        has_control = any(isinstance(body, Quality) for body in bodies)
        self.last = b"".join(map(untimed_digest, bodies)) if has_control else b""
        self.answered = not has_control

    def restore_last(self, body: InstrumentReport) -> None:
        """Record a report found on the disk; reports of one message have the same time."""
        if body.at_ms == self.last_ms and self.last:
            self.last = (self.last + untimed_digest(body))[-ADAPTED_DIGESTS_MAX * DIGEST_BYTES :]
        else:
            self.store_last([body])

    def not_repeated(self, digests: list[bytes]) -> list[int] | None:
        """Return the indices of new `digests` (without times); None if they do not repeat the last message."""
        known = Counter(_divide(self.last))
        if self.answered or not known or known - Counter(digests):
            return None
        return _unmatched(digests, known)

    def unknown(self, digests: list[bytes]) -> list[int]:
        """Return the indices of digests that were not accepted before, by multiplicity; empty ones are new."""
        return _unmatched(digests, Counter(_divide(self.digests)))

    def accept(self, run: int, number: int, digests: list[bytes]) -> None:
        """Move the mark for durable reports, the last of which has this number."""
        self.run, self.number = run, number
        self.digests = (self.digests + b"".join(digests))[-ADAPTED_DIGESTS_MAX * DIGEST_BYTES :]
