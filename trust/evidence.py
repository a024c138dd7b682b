"""Evidence: the content of a file or the output of a command, its time, and the SHA-256 of its text.

Secrets are removed before the text is kept and hashed: a hash of a file with a short password would reveal it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from typing import Final, Literal, TypeAlias

import msgspec

from settings.types import Table

_REDACTIONS: Final = (
    # TOML, also in inline tables: passwords of proxies, pre-shared keys
    (
        re.compile(r'\b(password|secret|user|domain)(\s*=\s*)("(?:\\.|[^"\\])*"|\'[^\']*\')'),
        r'\1\2"(removed)"',
    ),
    # keyfiles of NetworkManager
    (re.compile(r"(?m)^(psk|[\w-]*password[\w-]*|[\w-]*secret[\w-]*)=.*$"), r"\1=(removed)"),
)
EvidenceKind: TypeAlias = Literal["file", "paths", "command", "document"]


class EvidenceError(Exception):
    """The evidence cannot be used; the message states the remedy."""


class Evidence(Table, frozen=True):
    """One captured text. `source` is the path of a file, a pattern of paths, a command, or the kind of a document.

    Documents are about a machine, but not from it: a proof, a scan, a list of packages.
    """

    kind: EvidenceKind
    source: str
    at: str
    """The time at which it was captured: UTC, ISO 8601."""
    sha256: str
    """The SHA-256 of `text` in UTF-8."""
    text: str

    @property
    def id(self) -> str:
        """The name by which facts refer to it."""
        return f"{self.kind}:{self.source}"

    @property
    def intact(self) -> bool:
        """Whether the text has the recorded hash."""
        return sha256_of(self.text) == self.sha256


class EvidenceFile(Table, frozen=True):
    """The content of a file of `rap trust evidence`."""

    format: Literal["rap-evidence/1"] = "rap-evidence/1"
    evidence: list[Evidence] = []


def capture(kind: EvidenceKind, source: str, text: str, at: str) -> Evidence:
    """Return the evidence for a text, without its secrets."""
    redacted = without_secrets(text)
    return Evidence(kind=kind, source=source, at=at, sha256=sha256_of(redacted), text=redacted)


def without_secrets(text: str) -> str:
    """Return the text with passwords, users of proxies and pre-shared keys removed."""
    for pattern, replacement in _REDACTIONS:
        text = pattern.sub(replacement, text)
    return text


def sha256_of(text: str) -> str:
    """Return the SHA-256 of a text in UTF-8, in hexadecimal."""
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def encode_evidence(evidence: Iterable[Evidence]) -> bytes:
    """Return the file of `rap trust evidence`."""
    file = EvidenceFile(evidence=sorted(evidence, key=lambda each: each.id))
    return msgspec.json.format(msgspec.json.encode(file), indent=1) + b"\n"


def decode_evidence(data: bytes) -> list[Evidence]:
    """Read a file of `rap trust evidence`. Raises: EvidenceError, also if a text does not have its hash."""
    try:
        evidence = msgspec.json.decode(data, type=EvidenceFile).evidence
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise EvidenceError(f"is not a file of `rap trust evidence`: {error}") from None
    for each in evidence:
        if not each.intact:
            raise EvidenceError(f"{each.id}: the text was changed after it was captured; capture it again")
    return evidence
