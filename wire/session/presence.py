"""The code that staff tell by telephone, and the person at the instrument enters.

Both ends compute it from the signed offer, so that it is for exactly one offer and travels nowhere. The page at the
instrument shows neither the code nor the offer's bytes.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Final

DIGITS: Final = 6
TRIES: Final = 5
"""Wrong codes that end an offer: a guess succeeds with a probability of 5 in a million."""
_CONTEXT: Final = b"rap session code\0"


def code_of(offer_hash: bytes) -> str:
    """Return the code of an offer, from the SHA-256 of its message."""
    number = int.from_bytes(sha256(_CONTEXT + offer_hash).digest(), "big") % 10**DIGITS
    return f"{number:0{DIGITS}}"
