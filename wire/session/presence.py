"""The code that staff read out by telephone and the person at the instrument enters; the challenge of security keys.

Both ends compute the code from the signed offer: it is for exactly one offer, and is never transmitted. The page at
the instrument shows neither the code, nor the offer's bytes or hash, from which the code could be computed. The
challenge, which a browser must know, is computed from the same hash, and reveals nothing about the code.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Final

DIGITS: Final = 6
TRIES: Final = 5
"""The number of wrong codes that ends an offer: guessing succeeds with a probability of 5 in a million."""
_CONTEXT: Final = b"rap session code\0"
_CHALLENGE_CONTEXT: Final = b"rap session challenge\0"


def code_of(offer_hash: bytes) -> str:
    """Return the code of an offer, from the SHA-256 of its message."""
    number = int.from_bytes(sha256(_CONTEXT + offer_hash).digest(), "big") % 10**DIGITS
    return f"{number:0{DIGITS}}"


def challenge_of(offer_hash: bytes) -> bytes:
    """Return the challenge that a security key signs for an offer: 32 bytes, from the SHA-256 of its message."""
    return sha256(_CHALLENGE_CONTEXT + offer_hash).digest()
