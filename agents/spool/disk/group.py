"""A group on the disk: what one write and one flush make durable.

    [header][aux][table] [payload 0][payload 1] … [zeros] [aux][table][header]

The table holds a CRC-32C, a length and a priority for each record, as three arrays, so that packing and
checking run in C (`map` over `crc32c` and `len`). Aux, table and header have one CRC between them, in this order
since the header is known last, and are there twice, first and last: rot in a table loses no record, since the other
copy serves, and rot in a payload loses that record alone. Groups begin and end on sector boundaries, for two
reasons. A torn write can then not touch a sector that holds something already acknowledged; and after an unreadable
group the next header, or the last copy of this one, is found by looking at sector bounds only.

The first twelve bytes (magic, epoch, generation of the segment) are the same for all groups of one life of one
segment, and different for what an earlier life left behind in the same file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from itertools import accumulate, chain, compress
from operator import ne
from struct import Struct
from typing import NamedTuple

from crc32c import crc32c

from agents.spool.types import SECTOR_BYTES, Priority

MAGIC = b"RAPg"
PREFIX = Struct("<4sII")  # magic, epoch, generation
_HEADER = Struct("<BxxxQIII")  # kind, first seq, records, aux bytes, payload bytes
CURSORS = Struct("<3Q")  # everything up to these has been acknowledged, by priority
_CRC = Struct("<I")
HEADER_BYTES = PREFIX.size + _HEADER.size + CURSORS.size + _CRC.size
_CURSORS_AT = PREFIX.size + _HEADER.size
TABLE_BYTES = 9  # a record's line in the table
RECORD_BYTES_MIN = 2 * TABLE_BYTES  # what an empty record adds to a group

_ROUTINE = int(Priority.ROUTINE)
_tables: dict[int, Struct] = {}


class GroupKind(IntEnum):
    """What a group is for."""

    DATA = 1  # records with consecutive numbers; aux: numbers this group reports as lost
    CARRIED = (
        2  # alerts and audit records copied from an older segment; aux: their runs; first_seq: its generation
    )
    MANIFEST = 3  # no records; aux: the runs of all carried groups before it; first_seq as theirs
    CHECKPOINT = (
        4  # no records, first in its segment; aux: see `checkpoint.py`; first_seq: where the log begins
    )
    CLOSED = 5  # no records: the spool was closed in good order after everything before this
    SUMMARY = 6  # no records, last sector of its segment; aux: see `summary.py`; first_seq: its successor's


_KINDS = {int(kind): kind for kind in GroupKind}  # a look-up takes a tenth of the time that Kind(…) does
_PADS = tuple(bytes(size) for size in range(SECTOR_BYTES))


@dataclass(slots=True)  # not frozen: that makes it three times as dear, for every group that is read
class Group:
    """A group's header, aux and table, as found at `offset` of its segment; the payloads stay on the disk."""

    offset: int
    end: int
    kind: GroupKind
    first_seq: int
    last_seq: int  # `first_seq - 1` without records
    cursors: tuple[int, ...]
    aux: bytes
    crcs: tuple[int, ...]
    lengths: tuple[int, ...]
    priorities: bytes
    payload_offset: int
    payload_bytes: int

    @property
    def count(self) -> int:
        """Records in the group."""
        return len(self.crcs)

    def payloads(self, data: bytes) -> list[bytes]:
        """The records in `data`, the payload bytes as read from the disk, unchecked."""
        ends = accumulate(self.lengths)
        return [data[end - length : end] for end, length in zip(ends, self.lengths, strict=True)]

    def bad(self, payloads: Sequence[bytes]) -> list[int]:
        """Which records do not have their CRC, by position in the group."""
        if tuple(map(crc32c, payloads)) == self.crcs:
            return []
        return list(compress(range(self.count), map(ne, map(crc32c, payloads), self.crcs)))


def _table(count: int) -> Struct:
    table = _tables.get(count)
    if table is None:
        table = _tables[count] = Struct(f"<{2 * count}I")
    return table


class Records(NamedTuple):
    """Records to be appended together. What has to look at each of them has been done."""

    priorities: bytes
    payloads: Sequence[bytes]
    crcs: tuple[int, ...]
    lengths: tuple[int, ...]
    payload_bytes: int


class Heading(NamedTuple):
    """What a group says of its place: its segment's `prefix`, its first number, the packed cursors."""

    prefix: bytes
    first_seq: int
    cursors: bytes


NOWHERE = Heading(bytes(PREFIX.size), 0, bytes(CURSORS.size))  # of no group that was ever written


class Ready(NamedTuple):
    """Records as the group that they are if it goes where `heading` says. Never changed: any thread may make it."""

    heading: Heading
    records: Records
    data: bytes
    payload_offset: int
    routine_records: int
    routine_bytes: int


def measure(priorities: bytes, payloads: Sequence[bytes]) -> Records:
    """What can be done for records as they come, before it is known what they will share a group with."""
    lengths = tuple(map(len, payloads))
    return Records(priorities, payloads, tuple(map(crc32c, payloads)), lengths, sum(lengths))


def merge(parts: Sequence[Records]) -> Records:
    """The records of all parts. No payload is looked at again."""
    if len(parts) == 1:
        return parts[0]
    priorities, payloads, crcs, lengths, sizes = zip(*parts, strict=True)
    flat = chain.from_iterable
    return Records(b"".join(priorities), [*flat(payloads)], (*flat(crcs),), (*flat(lengths),), sum(sizes))


def encode(kind: int, heading: Heading, records: Records, aux: bytes = b"") -> bytes:
    """The bytes of one group, a whole number of sectors."""
    priorities, payloads, crcs, lengths, payload_bytes = records
    prefix, first_seq, cursors = heading
    body = aux + _table(len(crcs)).pack(*crcs, *lengths) + priorities
    header = prefix + _HEADER.pack(kind, first_seq, len(crcs), len(aux), payload_bytes) + cursors
    header += _CRC.pack(crc32c(header, crc32c(body)))
    pad = _PADS[-(2 * (HEADER_BYTES + len(body)) + payload_bytes) % SECTOR_BYTES]
    return b"".join((header, body, *payloads, pad, body, header))


def make_ready(heading: Heading, records: Records, aux: bytes = b"") -> Ready:
    """The records as a DATA group."""
    priorities, _, crcs, lengths, routine_bytes = records
    routine = priorities.count(_ROUTINE)
    if routine < len(crcs):
        routine_bytes = sum(compress(lengths, map(_ROUTINE.__eq__, priorities)))
    data = encode(GroupKind.DATA, heading, records, aux)
    return Ready(heading, records, data, payload_offset(records, aux), routine, routine_bytes)


def payload_offset(records: Records, aux: bytes = b"") -> int:
    """Where in their group the payloads begin."""
    return HEADER_BYTES + len(aux) + TABLE_BYTES * len(records.crcs)


def body_bytes(header: bytes) -> tuple[int, int]:
    """How long (the body, the whole group) is, by a header that has not been checked yet."""
    _, _, count, aux_bytes, payload_bytes = _HEADER.unpack_from(header, PREFIX.size)
    body = aux_bytes + TABLE_BYTES * count
    plain = 2 * (HEADER_BYTES + body) + payload_bytes
    return body, plain + -plain % SECTOR_BYTES


def decode(header: bytes, body: bytes, offset: int, end: int) -> Group | None:
    """The group from `offset` to `end` if this header and body belong together, whichever copies they are."""
    (crc,) = _CRC.unpack_from(header, HEADER_BYTES - _CRC.size)
    if crc32c(header[: -_CRC.size], crc32c(body)) != crc:
        return None
    number, first_seq, count, aux_bytes, payload_bytes = _HEADER.unpack_from(header, PREFIX.size)
    table, kind = _table(count).unpack_from(body, aux_bytes), _KINDS.get(number)
    if kind is None or sum(table[count:]) != payload_bytes:
        return None
    return Group(
        offset=offset,
        end=end,
        kind=kind,
        first_seq=first_seq,
        last_seq=first_seq + count - 1,
        cursors=CURSORS.unpack_from(header, _CURSORS_AT),
        aux=body[:aux_bytes],
        crcs=table[:count],
        lengths=table[count:],
        priorities=body[aux_bytes + 8 * count :],
        payload_offset=offset + HEADER_BYTES + len(body),
        payload_bytes=payload_bytes,
    )
