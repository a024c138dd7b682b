"""Summary of a sealed segment, in its last sector, so that opening need not read the segment.

A segment is sealed when the first group of its successor is durable. A summary therefore also proves that a successor
existed: if the newest segment has one, newer files are missing. Segments without a readable summary (written by an
older program, sealed during a disk error, or damaged) are read completely.

A summary holds no cursors: which records wait follows from its counts and the cursors in the newest segment.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from struct import Struct

_END = Struct("<II")  # end of the groups, generation carried from
_OWN = Struct("<IQ")  # records, payload bytes
_CARRIED = Struct("<IQQQ")  # records, payload bytes, lowest and highest number
_PRIORITIES, _PINNED = 3, 2


@dataclass(slots=True)
class Carried:
    """Records of one priority that were copied from an older segment."""

    records: int = 0
    bytes: int = 0
    first_seq: int = 0
    last_seq: int = 0

    def add(self, seq: int, size: int) -> None:
        """Count one record; numbers must ascend."""
        self.first_seq = self.first_seq or seq
        self.last_seq = seq
        self.records += 1
        self.bytes += size


@dataclass(slots=True)
class SegmentContents:
    """Counts of a segment's readable records, acknowledged or not: appended ones by priority, and carried ones."""

    records: list[int] = field(default_factory=lambda: [0] * _PRIORITIES)
    bytes: list[int] = field(default_factory=lambda: [0] * _PRIORITIES)
    carried: list[Carried] = field(default_factory=lambda: [Carried() for _ in range(_PINNED)])
    carried_from: int = 0  # generation of the segment that the `carried` records came from; 0: none


def pack_summary(contents: SegmentContents, end: int) -> bytes:
    """Encode the aux of a SUMMARY group; `end` is the offset after the segment's last group."""
    own = (_OWN.pack(*pair) for pair in zip(contents.records, contents.bytes, strict=True))
    carried = (_CARRIED.pack(c.records, c.bytes, c.first_seq, c.last_seq) for c in contents.carried)
    return b"".join((_END.pack(end, contents.carried_from), *own, *carried))


def unpack_summary(aux: bytes) -> tuple[SegmentContents, int]:
    """Reverse `pack_summary`."""
    end, carried_from = _END.unpack_from(aux)
    end_of_own = _END.size + _PRIORITIES * _OWN.size
    records, sizes = zip(*_OWN.iter_unpack(aux[_END.size : end_of_own]), strict=True)
    carried = [Carried(*fields) for fields in _CARRIED.iter_unpack(aux[end_of_own:])]
    return SegmentContents([*records], [*sizes], carried, carried_from), end
