"""The audit file of sessions at one end: JSON lines in a hash chain, with heads that both ends sign.

The first line identifies the end that wrote the file. Every other line is a record: a transition, a refusal, or a
signed head. A chain alone does not show that its tail was removed. Therefore each end signs the head of its chain
when a session opens and ends (`head`), and sends it to the other end, which records it (`peer head`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Final, Literal, TypeAlias

import msgspec
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

from wire.hash_chain import ChainHead, link_hash
from wire.session.cbor import CborError, decode, encode
from wire.session.cose import GrantError, Keys, sign, verify
from wire.session.table import End

FORMAT: Final = "rap-session-audit-1"
LINE_BYTES_MAX: Final = 16_384
Kind: TypeAlias = Literal["transition", "refusal", "head", "peer head"]


class AuditFileError(ValueError):
    """The file is not an audit file of sessions; the message names the line."""


class AuditOwner(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The first line: the owner of the records."""

    end: End
    name: str
    """The serial number of the box, or the name of the data center (`iss` of its offers)."""
    format: str = FORMAT


class SessionRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One record. Monotonic times are comparable only within a run of the program."""

    at_ms: int
    """The wall clock, in milliseconds since 1970."""
    monotonic_ms: int
    """The monotonic clock of this run, in milliseconds."""
    run: str
    """Identifies the run of the program."""
    kind: Kind
    session: str = ""
    """The session's id in hexadecimal digits; "" for heads."""
    event: str = ""
    actor: str = ""
    state: str = ""
    """The state after a transition."""
    cause: str = ""
    """The cause of the end, or the reason of a refusal."""
    deadline_ms: int = 0
    """The session's deadline on the monotonic clock; only in the record of the transition that computed it."""
    message: str = ""
    """The offer, the grant or the signed head of this record; at the end of a desktop the hash chain of the
    stream that the box has sent (`ending`), or that the data center has recorded (`ended`). In hexadecimal digits."""


class SessionAuditRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A record in the chain."""

    number: int
    record: SessionRecord
    previous: str
    hash: str

    def computed_hash(self) -> str:
        """Return the hash of the stored content."""
        return link_hash(self.number, msgspec.structs.astuple(self.record), self.previous)


@dataclass(frozen=True)
class AuditFile:
    """An audit file as it was read; nothing is verified yet."""

    owner: AuditOwner
    start: str
    """The hash before the first record."""
    lines: Sequence[SessionAuditRecord]


def owner_line(owner: AuditOwner) -> bytes:
    """Return the first line of a file."""
    return msgspec.json.encode(owner) + b"\n"


def start_hash(first_line: bytes) -> str:
    """Return the hash with which the chain begins, so that the first line belongs to it."""
    return sha256(first_line).hexdigest()


def record_line(head: ChainHead, record: SessionRecord) -> tuple[bytes, ChainHead]:
    """Return the line of a record that follows a head, and the head after it."""
    number = head.number + 1
    digest = link_hash(number, msgspec.structs.astuple(record), head.hash)
    return msgspec.json.encode(SessionAuditRecord(number, record, head.hash, digest)) + b"\n", ChainHead(
        number, digest
    )


def parse_audit(content: bytes) -> AuditFile:
    """Parse an audit file. Raises: AuditFileError."""
    first, *rest = content.splitlines(keepends=True) or [b""]
    try:
        owner = msgspec.json.decode(first, type=AuditOwner)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise AuditFileError(f"line 1: is not the first line of an audit file of sessions: {error}") from None
    if owner.format != FORMAT:
        raise AuditFileError(f"line 1: the format {owner.format} is not known; this version reads {FORMAT}")
    lines = []
    for number, line in enumerate(rest, 2):
        if not line.endswith(b"\n") or len(line) > LINE_BYTES_MAX:
            raise AuditFileError(f"line {number}: is incomplete, or longer than {LINE_BYTES_MAX} bytes")
        try:
            lines.append(msgspec.json.decode(line, type=SessionAuditRecord))
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise AuditFileError(f"line {number}: {error}") from None
    return AuditFile(owner, start_hash(first), lines)


_NAME, _NUMBER, _HASH = 1, 2, 3


@dataclass(frozen=True)
class SignedHead:
    """A head that its owner has signed."""

    name: str
    head: ChainHead


def sign_head(name: str, head: ChainHead, key: EllipticCurvePrivateKey) -> bytes:
    """Return the signed head of the chain of `name`."""
    return sign(encode({_NAME: name, _NUMBER: head.number, _HASH: bytes.fromhex(head.hash)}), key)


def read_head(message: bytes, keys: Keys) -> SignedHead:
    """Verify a signed head. Raises: GrantError."""
    try:
        value = decode(verify(message, keys).payload)
    except CborError as error:
        raise GrantError(f"the head is not deterministic CBOR: {error}") from None
    match value:
        case {1: str(name), 2: int(number), 3: bytes(digest), **others} if not others and len(digest) == 32:
            return SignedHead(name, ChainHead(number, digest.hex()))
    raise GrantError("is not the head of an audit file")
