"""Hash chains of records: each hash covers the record's number, its content, and the hash of the previous record."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

START: Final = "0" * 64
"""The hash before the first record."""


@dataclass(frozen=True)
class ChainHead:
    """The number of records, and the hash of the last one."""

    number: int
    hash: str


class ChainLink(Protocol):
    """A stored record of a chain."""

    @property
    def number(self) -> int:
        """Its number, from 1."""
        ...

    @property
    def previous(self) -> str:
        """The stored hash of the previous record."""
        ...

    @property
    def hash(self) -> str:
        """The stored hash of this record."""
        ...

    def computed_hash(self) -> str:
        """Return the hash of the stored content."""
        ...


def link_hash(number: int, content: Sequence[object], previous: str) -> str:
    """Return the hash of a record, in hexadecimal digits (SHA-256 of a JSON array in ASCII)."""
    text = json.dumps([number, *content, previous], ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def parse_head(text: str) -> ChainHead:
    """Parse a head as `NUMBER:HASH`. Raises: ValueError with the correction."""
    number, _, digest = text.partition(":")
    if not (number.isascii() and number.isdecimal() and len(digest) == len(START) and digest.isascii()):
        raise ValueError(
            f"{text} is not the head of an audit log; write it as NUMBER:HASH, as it was printed"
        )
    return ChainHead(int(number), digest)


def chain_problems(
    links: Iterable[ChainLink],
    head: ChainHead,
    known: Iterable[ChainHead] = (),
    start: ChainHead = ChainHead(0, START),
) -> Iterator[str]:
    """Verify records that follow `start`, in the order of their numbers; yield the problems.

    `known` are heads that were saved elsewhere: an attacker who can write all records can compute a new chain, but
    not one with these hashes.
    """
    known_hashes = {each.number: each.hash for each in known}
    number, previous = start.number, start.hash
    for link in links:
        if link.number != number + 1:
            yield _missing(number + 1, link.number - 1)
        elif link.previous != previous:
            yield f"record {link.number} does not follow record {number}: one of them was replaced"
        if link.computed_hash() != link.hash:
            yield f"record {link.number} was changed: its hash does not match its content"
        if link.hash != known_hashes.pop(link.number, link.hash):
            yield f"record {link.number} is not the one whose hash was saved: the log was replaced up to this record"
        number, previous = link.number, link.hash
    last = max([head.number, *known_hashes])
    if last > number:
        yield _missing(number + 1, last)
    elif head != ChainHead(number, previous):
        yield (
            f"the head of the log, record {head.number}, does not match the last record, {number}: "
            "the head was changed"
        )


def _missing(first: int, last: int) -> str:
    if last < first:
        return f"record {last + 1} appears twice or out of order"
    return f"record {first} is missing" if first == last else f"records {first} to {last} are missing"
