"""The signed head of a recording: the identifier of its session, and the value of its hash chain at the end.

The data center signs it. The record of the session's end in the box's audit file has the same value.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

from wire.desktop.stream import CHAIN_BYTES
from wire.session.cbor import CborError, decode, encode
from wire.session.cose import GrantError, Keys, sign, verify
from wire.session.grant import ID_BYTES

_PURPOSE, _SESSION, _CHAIN = 1, 2, 3
_RECORDING: Final = "recording"


@dataclass(frozen=True)
class RecordingHead:
    """The content of a signed head."""

    session: bytes
    chain: bytes


def sign_recording(head: RecordingHead, key: EllipticCurvePrivateKey) -> bytes:
    """Return the signed head."""
    return sign(encode({_PURPOSE: _RECORDING, _SESSION: head.session, _CHAIN: head.chain}), key)


def read_recording_head(message: bytes, keys: Keys) -> RecordingHead:
    """Verify a signed head. Raises: GrantError."""
    try:
        value = decode(verify(message, keys).payload)
    except CborError as error:
        raise GrantError(f"is not deterministic CBOR: {error}") from None
    match value:
        case {1: "recording", 2: bytes(session), 3: bytes(chain), **others} if not others and (
            len(session),
            len(chain),
        ) == (ID_BYTES, CHAIN_BYTES):
            return RecordingHead(session, chain)
    raise GrantError("is not the head of a recording")
