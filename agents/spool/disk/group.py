"""Encoding of a group, the unit of one write and one flush.

    [header][aux][table] [payload 0][payload 1] … [zeros] [aux][table][header]

The table holds a CRC-32C, a length and a priority for each record, as three arrays, so that packing and checking run
in C (`map` over `crc32c` and `len`). Aux, table and header share one CRC, computed in this order because the header
is known last. They are stored twice, at both ends of the group: a damaged table loses no record because of the second
copy, and a damaged payload loses only its own record. Groups begin and end on sector boundaries, for two reasons: a
torn write cannot damage a sector with acknowledged records, and after an unreadable group only sector boundaries have
to be searched for the next header or the second copy of this one.

The first twelve bytes (magic, epoch, generation of the segment) are the same in all groups of a segment. They differ
from those that an earlier generation left in the same file.
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
CURSORS = Struct("<3Q")  # by priority: all records up to this number have been acknowledged
_CRC = Struct("<I")
HEADER_BYTES = PREFIX.size + _HEADER.size + CURSORS.size + _CRC.size
_CURSORS_AT = PREFIX.size + _HEADER.size
TABLE_BYTES = 9  # bytes of one record in the table
RECORD_BYTES_MIN = 2 * TABLE_BYTES  # bytes that an empty record adds to a group

_ROUTINE = int(Priority.ROUTINE)
_tables: dict[int, Struct] = {}


class GroupKind(IntEnum):
    """Kind of a group: which records it holds, and what its aux and `first_seq` mean."""

    DATA = 1  # records with consecutive numbers; aux: the numbers that this group reports as lost
    CARRIED = 2  # alerts and audit records copied from an older segment; aux: runs; first_seq: its generation
    MANIFEST = 3  # no records; repeats aux and first_seq of the CARRIED group before it
    # no records, first group of its segment; aux: see `checkpoint.py`; first_seq: first number in the log
    CHECKPOINT = 4
    CLOSED = 5  # no records: clean-close marker
    SUMMARY = 6  # no records, last sector of a segment; aux: see `summary.py`; first_seq: the successor's


_KINDS = {int(kind): kind for kind in GroupKind}  # ten times faster than GroupKind(number)
_PADS = tuple(bytes(size) for size in range(SECTOR_BYTES))


@dataclass(slots=True)  # not frozen: constructing a frozen one takes three times as long
class Group:
    """Header, aux and table of the group at byte `offset` of its segment; the payloads stay on the disk."""

    offset: int
    end: int
    kind: GroupKind
    first_seq: int
    last_seq: int  # `first_seq - 1` if there are no records
    cursors: tuple[int, ...]
    aux: bytes
    crcs: tuple[int, ...]
    lengths: tuple[int, ...]
    priorities: bytes
    payload_offset: int
    payload_bytes: int

    @property
    def count(self) -> int:
        """Number of records in the group."""
        return len(self.crcs)

    def payloads(self, data: bytes) -> list[bytes]:
        """Split `data`, the payload bytes read from the disk, into records; checksums are not verified."""
        ends = accumulate(self.lengths)
        return [data[end - length : end] for end, length in zip(ends, self.lengths, strict=True)]

    def damaged(self, payloads: Sequence[bytes]) -> list[int]:
        """Return the indices of the payloads with a wrong checksum."""
        if tuple(map(crc32c, payloads)) == self.crcs:
            return []
        return list(compress(range(self.count), map(ne, map(crc32c, payloads), self.crcs)))


def _table(count: int) -> Struct:
    table = _tables.get(count)
    if table is None:
        table = _tables[count] = Struct(f"<{2 * count}I")
    return table


class Records(NamedTuple):
    """Records to be appended together, with their checksums and lengths."""

    priorities: bytes
    payloads: Sequence[bytes]
    crcs: tuple[int, ...]
    lengths: tuple[int, ...]
    payload_bytes: int


class GroupHeading(NamedTuple):
    """The part of a header that depends on earlier groups: segment `prefix`, first number, packed cursors."""

    prefix: bytes
    first_seq: int
    cursors: bytes


# equal to the heading of no written group
NO_HEADING = GroupHeading(bytes(PREFIX.size), 0, bytes(CURSORS.size))


class PreparedGroup(NamedTuple):
    """An encoded group, valid only under `heading`. Immutable, so that any thread may create it."""

    heading: GroupHeading
    records: Records
    data: bytes
    payload_offset: int
    routine_records: int
    routine_bytes: int


def measure(priorities: bytes, payloads: Sequence[bytes]) -> Records:
    """Compute lengths and checksums, which do not depend on the group that the records will be in."""
    lengths = tuple(map(len, payloads))
    return Records(priorities, payloads, tuple(map(crc32c, payloads)), lengths, sum(lengths))


def merge(parts: Sequence[Records]) -> Records:
    """Concatenate records, without reading the payloads again."""
    if len(parts) == 1:
        return parts[0]
    priorities, payloads, crcs, lengths, sizes = zip(*parts, strict=True)
    flat = chain.from_iterable
    return Records(b"".join(priorities), [*flat(payloads)], (*flat(crcs),), (*flat(lengths),), sum(sizes))


def encode(kind: int, heading: GroupHeading, records: Records, aux: bytes = b"") -> bytes:
    """Encode one group; the length is a whole number of sectors."""
    priorities, payloads, crcs, lengths, payload_bytes = records
    prefix, first_seq, cursors = heading
    body = aux + _table(len(crcs)).pack(*crcs, *lengths) + priorities
    header = prefix + _HEADER.pack(kind, first_seq, len(crcs), len(aux), payload_bytes) + cursors
    header += _CRC.pack(crc32c(header, crc32c(body)))
    pad = _PADS[-(2 * (HEADER_BYTES + len(body)) + payload_bytes) % SECTOR_BYTES]
    return b"".join((header, body, *payloads, pad, body, header))


def prepare_group(heading: GroupHeading, records: Records, aux: bytes = b"") -> PreparedGroup:
    """Encode records as a DATA group."""
    priorities, _, crcs, lengths, routine_bytes = records
    routine = priorities.count(_ROUTINE)
    if routine < len(crcs):
        routine_bytes = sum(compress(lengths, map(_ROUTINE.__eq__, priorities)))
    data = encode(GroupKind.DATA, heading, records, aux)
    return PreparedGroup(heading, records, data, payload_offset(records, aux), routine, routine_bytes)


def payload_offset(records: Records, aux: bytes = b"") -> int:
    """Return the offset of the first payload from the beginning of the group, in bytes."""
    return HEADER_BYTES + len(aux) + TABLE_BYTES * len(records.crcs)


def body_bytes(header: bytes) -> tuple[int, int]:
    """Return the lengths of (body, whole group), from a header whose checksum has not been verified yet."""
    _, _, count, aux_bytes, payload_bytes = _HEADER.unpack_from(header, PREFIX.size)
    body = aux_bytes + TABLE_BYTES * count
    plain = 2 * (HEADER_BYTES + body) + payload_bytes
    return body, plain + -plain % SECTOR_BYTES


def decode(header: bytes, body: bytes, offset: int, end: int) -> Group | None:
    """Return the group from `offset` to `end`, or None if the checksum of header and body is wrong."""
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
