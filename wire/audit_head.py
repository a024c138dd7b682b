"""The head of a box's chain of audit records, countersigned by the data center, so that a removed tail is detected.

    POST /v1/audit-head    the box's `HeadQuery`

    200  the records up to the queried head have arrived, and are verified; the body is a `CountersignedHead`
    202  they have not all arrived yet: request it again
    404  the data center signs no heads
    409  the stored records differ from the box's records, or end before the countersigned one

The box keeps the newest countersigned head next to its spool, and the data center keeps it beside the records. With
it, each end detects records that were removed or replaced on its own side. The box sends its head to the data center
with each query; therefore the data center also detects records that were removed there together with all references
to them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Annotated, Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from msgspec import Meta

from settings.types import Serial
from wire.messages import Message, Number, Run, TimeMs, encode

PATH: Final = "/v1/audit-head"
HEAD_BYTES_MAX: Final = 256
"""Maximum size of an encoded `CountersignedHead`; the signature has at most 72 bytes."""
_DOMAIN: Final = b"rap countersigned head of an audit chain, version 1\0"
"""No other message that a key of the data center signs begins with these bytes."""
_TEXT: Final = re.compile(r"([A-Z0-9][A-Z0-9-]{0,23})/([0-9]{1,10})/([1-9][0-9]{0,15}):([0-9a-f]{64})")
Digest = Annotated[bytes, Meta(min_length=32, max_length=32)]


class KnownHead(Message, frozen=True):
    """A record of a box's chain: the epoch of the spool, the record's number, and the hash of its encoding."""

    epoch: Run
    number: Number
    digest: Digest


class CountersignedHead(Message, frozen=True):
    """The data center had these records at `at_ms` by its clock: all of the chain up to `head`."""

    box: Serial
    head: KnownHead
    at_ms: TimeMs
    signature: Annotated[bytes, Meta(max_length=80)] = b""
    """ECDSA P-256 with SHA-256, DER."""


class HeadQuery(Message, frozen=True):
    """Data center ← box: the head to countersign, and the box's newest countersigned head."""

    head: KnownHead
    newest: CountersignedHead | None = None


def head_text(box: str, head: KnownHead) -> str:
    """Return a head as text: BOX/CHAIN/NUMBER:HASH."""
    return f"{box}/{head.epoch}/{head.number}:{head.digest.hex()}"


def parse_head_text(text: str) -> tuple[str, KnownHead]:
    """Return the box and the head of a text. Raises: ValueError with the correction."""
    match = _TEXT.fullmatch(text)
    if match is None:
        raise ValueError(
            f"{text} is not a head; write it as BOX/CHAIN/NUMBER:HASH, as `rap box status` prints it"
        )
    box, epoch, number, digest = match.groups()
    return box, KnownHead(int(epoch), int(number), bytes.fromhex(digest))


def countersign(box: str, head: KnownHead, at_ms: int, key: ec.EllipticCurvePrivateKey) -> CountersignedHead:
    """Sign a head with the data center's key of curve P-256."""
    unsigned = CountersignedHead(box, head, at_ms)
    return CountersignedHead(box, head, at_ms, key.sign(_signed_bytes(unsigned), ec.ECDSA(SHA256())))


def is_countersigned(head: CountersignedHead, box: str, keys: Iterable[ec.EllipticCurvePublicKey]) -> bool:
    """Return whether a head belongs to this box and is signed by one of the keys."""
    return head.box == box and any(_is_signed_by(head, key) for key in keys)


def _is_signed_by(head: CountersignedHead, key: ec.EllipticCurvePublicKey) -> bool:
    try:
        key.verify(head.signature, _signed_bytes(head), ec.ECDSA(SHA256()))
    except InvalidSignature:
        return False
    return True


def _signed_bytes(head: CountersignedHead) -> bytes:
    return _DOMAIN + encode(CountersignedHead(head.box, head.head, head.at_ms))
