"""Audit records and their hash chain: each hash covers the record, its number, and the hash of the record before."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import astuple, dataclass, fields
from typing import Final

FIELD_CHARACTERS_MAX: Final = 500
"""Longer texts are cut: names in requests are of any length until they are checked."""
START: Final = "0" * 64
"""The hash before the first record."""


@dataclass(frozen=True)
class AuditEntry:
    """Who did what with which resource, for which purpose, and whether and why it was permitted."""

    at_ms: int
    actor: str
    token: str
    """The API token that was used, or ""."""
    action: str
    kind: str
    resource: str
    place: str
    purpose: str
    outcome: str
    policy: str
    reason: str

    def cleaned(self) -> AuditEntry:
        """Return the entry with texts that every database can store: no control characters, and of limited length."""
        texts = [_clean(getattr(self, field.name)) for field in fields(self)[1:]]
        return AuditEntry(self.at_ms, *texts)


def _clean(text: str) -> str:
    plain = "".join(c if c.isprintable() else "\ufffd" for c in text)
    return plain if len(plain) <= FIELD_CHARACTERS_MAX else plain[: FIELD_CHARACTERS_MAX - 1] + "…"


@dataclass(frozen=True)
class AuditHead:
    """The number of records, and the hash of the last one."""

    number: int
    hash: str


def parse_head(text: str) -> AuditHead:
    """Parse a head as `NUMBER:HASH`. Raises: ValueError with the correction."""
    number, _, digest = text.partition(":")
    if not (number.isascii() and number.isdecimal() and len(digest) == len(START) and digest.isascii()):
        raise ValueError(
            f"{text} is not the head of an audit log; write it as NUMBER:HASH, as it was printed"
        )
    return AuditHead(int(number), digest)


@dataclass(frozen=True)
class AuditRow:
    """A stored record."""

    number: int
    entry: AuditEntry
    previous: str
    hash: str


def record_hash(number: int, entry: AuditEntry, previous: str) -> str:
    """Return the hash of a record, in hexadecimal digits (SHA-256 of a JSON array in ASCII)."""
    content = json.dumps([number, *astuple(entry), previous], ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(content.encode("ascii")).hexdigest()


def chained(head: AuditHead, entries: Iterable[AuditEntry]) -> Iterator[AuditRow]:
    """Yield the records that follow a head."""
    previous = head.hash
    for number, entry in enumerate(entries, head.number + 1):
        digest = record_hash(number, entry, previous)
        yield AuditRow(number, entry, previous, digest)
        previous = digest


def chain_problems(
    rows: Iterable[AuditRow],
    head: AuditHead,
    known: Iterable[AuditHead] = (),
    start: AuditHead = AuditHead(0, START),
) -> Iterator[str]:
    """Verify records that follow `start`, in the order of their numbers; yield what is wrong.

    `known` are heads that were noted elsewhere before: whoever can write all tables can compute a new chain, but not
    one with these hashes.
    """
    wanted = {each.number: each.hash for each in known}
    number, previous = start.number, start.hash
    for row in rows:
        if row.number != number + 1:
            yield _missing(number + 1, row.number - 1)
        elif row.previous != previous:
            yield f"record {row.number} does not follow record {number}: one of them was replaced"
        if record_hash(row.number, row.entry, row.previous) != row.hash:
            yield f"record {row.number} was changed: its hash does not match its content"
        if row.hash != wanted.pop(row.number, row.hash):
            yield f"record {row.number} is not the one that was noted: the log was replaced up to this record"
        number, previous = row.number, row.hash
    last = max([head.number, *wanted])
    if last > number:
        yield _missing(number + 1, last)
    elif head != AuditHead(number, previous):
        yield f"the head of the log is record {head.number}, but the last record is {number}: the head was changed"


def _missing(first: int, last: int) -> str:
    if last < first:
        return f"record {last + 1} appears twice or out of order"
    return f"record {first} is missing" if first == last else f"records {first} to {last} are missing"
