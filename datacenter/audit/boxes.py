"""Verifies and reads the stored audit records of boxes (`datacenter.store.box_audit`)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import groupby
from typing import Final, NamedTuple

from sqlalchemy import select

from datacenter.store.box_audit import START, AuditRecord, make_record, previous_of
from datacenter.store.schema import box_audit, box_audit_problems, box_chains
from datacenter.store.store import Store
from wire.messages import Entry, MessageError, decode

_A = box_audit.c
_COLUMNS = [_A[name] for name in AuditRecord._fields]


class AuditSearch(NamedTuple):
    """What to find; empty conditions hold for all records."""

    box: str = ""
    text: str = ""
    """Anywhere in the text, in any case."""
    since_ms: int = 0
    until_ms: int = 2**53


def find_records(store: Store, wanted: AuditSearch) -> Iterator[AuditRecord]:
    """Yield records by box, in the order of the chains; lines that were sent twice, once. Raises: StoreError."""
    query = select(*_COLUMNS).where(
        _A.at_ms >= wanted.since_ms, _A.at_ms < wanted.until_ms, _A.is_repeated == 0
    )
    if wanted.box:
        query = query.where(_A.box == wanted.box)
    if wanted.text:
        query = query.where(_A.text.icontains(wanted.text, autoescape=True))
    for part in store.parts:
        for row in part.read(query.order_by(_A.box, _A.epoch, _A.number)):
            yield _record(row)


CLOCK_DOUBT_MS: Final = 600_000
"""A record whose time is later than its arrival by more has been made while the box's clock was wrong."""
EARLIEST_MS: Final = 1_735_689_600_000
"""2025-01-01: no box existed before."""


def is_clock_doubtful(record: AuditRecord) -> bool:
    """Return whether the time of a record cannot be right."""
    return record.at_ms > record.stored_at_ms + CLOCK_DOUBT_MS or record.at_ms < EARLIEST_MS


def search_line(record: AuditRecord) -> str:
    """Return a record as a line for people; `?` marks a time that cannot be right."""
    doubt = "?" if is_clock_doubtful(record) else ""
    return f"{iso_time(record.at_ms)}{doubt} {record.box} {record.number} {record.text}"


def export_line(record: AuditRecord) -> str:
    """Return a record as a JSON object, with what is needed to verify the chain without the database."""
    return json.dumps(
        {
            "box": record.box,
            "chain": record.epoch,
            "number": record.number,
            "time": iso_time(record.at_ms),
            "arrived": iso_time(record.stored_at_ms),
            "clock_doubtful": is_clock_doubtful(record),
            "kind": record.kind,
            "text": record.text,
            "hash": record.hash.hex(),
            "entry": record.entry.hex(),
        }
    )


def iso_time(ms: int) -> str:
    """Return a time as RFC 3339 in UTC; times after 9999 as the last one of that year."""
    seconds, rest = divmod(min(ms, 253_402_300_799_999), 1000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest:03}Z"


def box_chain_problems(store: Store) -> Iterator[str]:
    """Verify the chains of all boxes; yield what is wrong, now or when records arrived. Raises: StoreError."""
    for part in store.parts:
        heads = {}
        for box, epoch, number, digest, last in part.read(
            select(*(box_chains.c[name] for name in ("box", "epoch", "number", "hash", "last")))
        ):
            heads[box, epoch] = number, bytes(digest), last
        rows = map(_record, part.read(select(*_COLUMNS).order_by(_A.box, _A.epoch, _A.number)))
        for key, chain in groupby(rows, lambda row: (row.box, row.epoch)):
            number, digest, last = heads.pop(key, (0, START, 0))
            yield from _problems(*key, chain, number, digest, last)
        for (box, epoch), (_, _, last) in heads.items():
            yield f"{box}: all {last} records of the chain {epoch} are missing"
        other = box_audit.alias()
        is_known = select(other.c.box).where(
            other.c.box == _A.box, other.c.line == _A.line, other.c.is_repeated == 0
        )
        hidden = select(_A.box, _A.epoch, _A.number).where(_A.is_repeated == 1, ~is_known.exists())
        for box, epoch, number in part.read(hidden):
            yield f"{box}: chain {epoch}: record {number} was changed: it is marked as repeated, but is not"
        for box, epoch, problem in part.read(
            select(*(box_audit_problems.c[name] for name in ("box", "epoch", "problem")))
        ):
            yield f"{box}: chain {epoch}: found at arrival: {problem}"


def _problems(
    box: str, epoch: int, records: Iterator[AuditRecord], head: int, head_hash: bytes, last: int
) -> Iterator[str]:
    number, digest = 0, START
    hash_at_head = START
    for record in records:
        where = f"{box}: chain {epoch}: record {record.number}"
        if record.number > number + 1:
            yield f"{box}: chain {epoch}: records {number + 1} to {record.number - 1} are missing"
        elif record.number == number:
            yield f"{where} is there twice, with two contents"
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
        yield f"{box}: chain {epoch}: the head was changed: record {number} is behind the last one, {last}"
    if head and number >= head and hash_at_head != head_hash:
        yield f"{box}: chain {epoch}: the head was changed: its hash is not that of record {head}"


def _record(row: object) -> AuditRecord:
    record = AuditRecord(*row)  # type: ignore[misc]
    line = None if record.line is None else bytes(record.line)
    return record._replace(hash=bytes(record.hash), line=line, entry=bytes(record.entry))
