"""Verifies and reads the stored audit records of boxes (`datacenter.store.box_audit`)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from itertools import groupby
from typing import Any, Final, NamedTuple

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from sqlalchemy import ColumnElement, Select, literal, or_, select, tuple_

from datacenter.store.box_audit import START, AuditRecord, make_record, previous_of
from datacenter.store.store import Store
from datacenter.store.tables.schema import box_audit, box_audit_problems, box_chains
from wire.audit_head import CountersignedHead, KnownHead, is_countersigned
from wire.messages import Entry, MessageError, decode

_A, _C = box_audit.c, box_chains.c
_COLUMNS = [_A[name] for name in AuditRecord._fields]


class AuditSearch(NamedTuple):
    """The search conditions; an empty condition matches all records."""

    box: str = ""
    text: str = ""
    """Searched for anywhere in the text of a record, ignoring case."""
    since_ms: int = 0
    """The earliest time by the box's clock; `until_ms` is the end of the period, exclusive."""
    until_ms: int = 2**53
    kind: str = ""
    """The tag of the message, such as `line` or `audit`."""
    is_doubtful: bool = False
    """Only records for which `is_clock_doubtful` is true."""

    @property
    def clauses(self) -> list[ColumnElement[bool]]:
        """The conditions for the rows; a line that was sent twice is found once."""
        conditions = [_A.at_ms >= self.since_ms, _A.at_ms < self.until_ms, _A.is_repeated == 0]
        conditions += [
            column == value for column, value in ((_A.box, self.box), (_A.kind, self.kind)) if value
        ]
        if self.text:
            conditions.append(_A.text.icontains(self.text, autoescape=True))
        if self.is_doubtful:
            conditions.append(DOUBTFUL)
        return conditions


def find_records(store: Store, wanted: AuditSearch) -> Iterator[AuditRecord]:
    """Yield records by box, in the order of the chains, read in blocks. Raises: StoreError."""
    key = (_A.box, _A.epoch, _A.number, _A.hash)
    query = select(*_COLUMNS).where(*wanted.clauses).order_by(*key).limit(BLOCK)
    for part in store.parts:
        block = list(map(record_of, part.read(query)))
        while block:
            yield from block
            last = block[-1]
            after = tuple_(*key) > tuple_(*map(literal, (last.box, last.epoch, last.number, last.hash)))
            block = list(map(record_of, part.read(query.where(after)))) if len(block) == BLOCK else []


BLOCK: Final = 5_000
"""Records that are read in one transaction: a slow reader of an export must not hold one open."""
CLOCK_DOUBT_MS: Final = 600_000
"""A record whose time is later than its arrival by more than this was made while the box's clock was wrong."""
EARLIEST_MS: Final = 1_735_689_600_000
"""2025-01-01, before which no box existed."""
DOUBTFUL: Final = or_(_A.at_ms > _A.stored_at_ms + CLOCK_DOUBT_MS, _A.at_ms < EARLIEST_MS)
"""`is_clock_doubtful` as a condition for rows."""


def is_clock_doubtful(record: AuditRecord) -> bool:
    """Return whether the time of a record is implausible."""
    return is_time_doubtful(record.at_ms, record.stored_at_ms)


def is_time_doubtful(at_ms: int, stored_at_ms: int) -> bool:
    """Return whether a time by a reporter's clock is implausible for its time of storage."""
    return at_ms > stored_at_ms + CLOCK_DOUBT_MS or at_ms < EARLIEST_MS


def search_line(record: AuditRecord) -> str:
    """Return a record as a readable line; `?` marks an implausible time."""
    doubt = "?" if is_clock_doubtful(record) else ""
    return f"{iso_time(record.at_ms)}{doubt} {record.box} {record.number} {record.text}"


def export_line(record: AuditRecord) -> str:
    """Return a record as a JSON object, with the data that verifies the chain without the database."""
    return json.dumps(exported(record)._asdict())


class ExportedRecord(NamedTuple):
    """The columns of an exported record."""

    box: str
    chain: int
    number: int
    time: str
    arrived: str
    clock_doubtful: bool
    kind: str
    text: str
    hash: str
    entry: str
    """The record as encoded by the box, in hexadecimal digits: its SHA-256 is the hash."""


def exported(record: AuditRecord) -> ExportedRecord:
    """Return the columns of a record."""
    return ExportedRecord(
        record.box,
        record.epoch,
        record.number,
        iso_time(record.at_ms),
        iso_time(record.stored_at_ms),
        is_clock_doubtful(record),
        record.kind,
        record.text,
        record.hash.hex(),
        record.entry.hex(),
    )


def iso_time(ms: int) -> str:
    """Return a time as RFC 3339 in UTC; times after 9999 as the last one of that year."""
    seconds, milliseconds = divmod(min(ms, 253_402_300_799_999), 1000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{milliseconds:03}Z"


def box_chain_problems(
    store: Store,
    box: str = "",
    key: EllipticCurvePublicKey | None = None,
    known: Iterable[tuple[str, KnownHead]] = (),
) -> Iterator[str]:
    """Verify the chains of one box or of all boxes; yield the problems found now or at arrival. Raises: StoreError.

    With `key`, the data center's public key, its signatures of heads are verified, too. `known` are heads that boxes
    have shown, each with its box.
    """
    for name, head in known:
        if not _was_removed(store.of(name), name, head) and not _has_record(store.of(name), name, head):
            where = f"{name}: chain {head.epoch}: record {head.number}"
            yield f"{where}, of which the box has a countersigned head, is missing or was replaced"
    for part in store.parts:
        yield from _head_problems(part, box, key)
        heads = {}
        columns = ("box", "epoch", "number", "hash", "last", "removed", "removed_hash")
        for name, epoch, number, digest, last, removed, removed_hash in part.read(
            _of_box(box, *(_C[column] for column in columns))
        ):
            heads[name, epoch] = number, bytes(digest), last, removed, bytes(removed_hash or START)
        rows = map(record_of, part.read(_of_box(box, *_COLUMNS).order_by(_A.box, _A.epoch, _A.number)))
        for chain_key, chain in groupby(rows, lambda row: (row.box, row.epoch)):
            box_name, epoch = chain_key
            number, digest, last, removed, removed_hash = heads.pop(chain_key, (0, START, 0, 0, START))
            yield from _problems(box_name, epoch, chain, number, digest, last, removed, removed_hash)
        for (name, epoch), (_, _, last, *_) in heads.items():
            yield f"{name}: all {last} records of the chain {epoch} are missing"
        original = box_audit.alias()
        is_known = select(original.c.box).where(
            original.c.box == _A.box, original.c.line == _A.line, original.c.is_repeated == 0
        )
        hidden = _of_box(box, _A.box, _A.epoch, _A.number).where(_A.is_repeated == 1, ~is_known.exists())
        for name, epoch, number in part.read(hidden):
            yield f"{name}: chain {epoch}: record {number} was changed: it is marked as repeated, but is not"
        for name, epoch, problem in part.read(
            _of_box(box, *(box_audit_problems.c[column] for column in ("box", "epoch", "problem")))
        ):
            yield f"{name}: chain {epoch}: found at arrival: {problem}"


def _of_box(box: str, *columns: Any) -> Select[Any]:
    """Select from the rows of a box, or of all boxes; the first column is the box."""
    selected = select(*columns)
    return selected.where(columns[0] == box) if box else selected


def _head_problems(part: Store, box: str, key: EllipticCurvePublicKey | None) -> Iterator[str]:
    """Compare countersigned heads with the records."""
    query = _of_box(box, _C.box, _C.epoch, _C.signed_number, _C.signed, _C.removed).where(
        _C.signed_number > 0
    )
    for name, epoch, number, encoded, removed in list(part.read(query)):
        where = f"{name}: chain {epoch}: the countersigned head"
        try:
            signed = decode(CountersignedHead, bytes(encoded or b""))
        except MessageError:
            yield f"{where} was changed: it cannot be read"
            continue
        head = signed.head
        if key is not None and not is_countersigned(signed, name, [key]):
            yield f"{where} was changed, or was signed with a key other than that of [audit]"
        if (head.epoch, head.number) != (epoch, number):
            yield f"{where} was changed: it is that of record {head.number} of chain {head.epoch}"
        if head.number > removed and not _has_record(part, name, head):
            yield f"{where}, record {head.number}, is missing or was replaced"


def _has_record(part: Store, box: str, head: KnownHead) -> bool:
    of_record = (_A.box == box, _A.epoch == head.epoch, _A.number == head.number, _A.hash == head.digest)
    return bool(list(part.read(select(_A.number).where(*of_record))))


def _was_removed(part: Store, box: str, head: KnownHead) -> bool:
    """Return whether retention has removed a record."""
    of_chain = (_C.box == box, _C.epoch == head.epoch, _C.removed >= head.number)
    return bool(list(part.read(select(_C.removed).where(*of_chain))))


def _problems(
    box: str,
    epoch: int,
    records: Iterator[AuditRecord],
    head: int,
    head_hash: bytes,
    last: int,
    removed: int,
    removed_hash: bytes,
) -> Iterator[str]:
    """Verify a chain from the first record that retention has not removed."""
    number, digest = removed, removed_hash
    hash_at_head = START
    for record in records:
        where = f"{box}: chain {epoch}: record {record.number}"
        if record.number > number + 1:
            yield f"{box}: chain {epoch}: records {number + 1} to {record.number - 1} are missing"
        elif record.number == number:
            yield f"{where} is stored twice, with different contents"
        try:
            expected = make_record(
                box, epoch, record.sequence, record.stored_at_ms, decode(Entry, record.entry)
            )
            if expected._replace(is_repeated=record.is_repeated) != record:
                yield f"{where} was changed: its columns do not match what the box sent"
            if record.number == number + 1 and number and previous_of(record.entry) != digest:
                yield f"{where} does not follow record {number}: one of them was replaced"
        except (MessageError, AssertionError):
            yield f"{where} was changed: it is not an audit record that a box sent"
        number, digest = record.number, record.hash
        if number == head:
            hash_at_head = digest
    if number < last:
        yield f"{box}: chain {epoch}: records {number + 1} to {last} are missing"
    elif number > last:
        yield f"{box}: chain {epoch}: the head was changed: record {number} comes after the last one, {last}"
    if head and number >= head and hash_at_head != head_hash:
        yield f"{box}: chain {epoch}: the head was changed: its hash is not that of record {head}"


def record_of(row: object) -> AuditRecord:
    """Return the record of a row with the columns of `AuditRecord`."""
    record = AuditRecord(*row)  # type: ignore[misc]
    line = None if record.line is None else bytes(record.line)
    return record._replace(hash=bytes(record.hash), line=line, entry=bytes(record.entry))
