"""Audit records of the data center, and their hash chain (`wire.hash_chain`)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import astuple, dataclass, fields
from typing import Final

from wire.hash_chain import ChainHead, link_hash

FIELD_CHARACTERS_MAX: Final = 500
"""Longer texts are truncated: names in requests have any length until they are checked."""


@dataclass(frozen=True)
class AuditEntry:
    """A decision: who did what with which resource, for which purpose, and whether and why it was permitted."""

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
class AuditRow:
    """A stored record."""

    number: int
    entry: AuditEntry
    previous: str
    hash: str

    def computed_hash(self) -> str:
        """Return the hash of the stored record."""
        return link_hash(self.number, astuple(self.entry), self.previous)


def chained(head: ChainHead, entries: Iterable[AuditEntry]) -> Iterator[AuditRow]:
    """Yield the records that follow a head."""
    previous = head.hash
    for number, entry in enumerate(entries, head.number + 1):
        digest = link_hash(number, astuple(entry), previous)
        yield AuditRow(number, entry, previous, digest)
        previous = digest
