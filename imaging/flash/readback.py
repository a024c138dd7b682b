"""Whether a disk gives back what was written to it, at a twelfth of what SHA-256 costs.

What is written was compared with its signed SHA-256 a moment before, in the same memory. From then on the question is
another one: are these still those bytes? A code by AES-128-GMAC answers it (NIST SP 800-38D: GCM with nothing to
encrypt). Its key is drawn for this run and never leaves the process, so that no medium, broken or made to lie, can
find other bytes with the same code but by luck: for a MiB, less than once in 2**111 times. A checksum would do for a
broken one, and not for a liar.

A nonce is the range's offset. That a range's code is made twice with it does no harm: nobody ever sees a code.
"""

from __future__ import annotations

from typing import Final

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

_KEY_BITS: Final = 128
_NONCE_BYTES: Final = 12


class ReadbackVerifier:
    """The codes of all that was written, by its offset in bytes."""

    def __init__(self) -> None:
        self._mac = AESGCM(AESGCM.generate_key(_KEY_BITS))
        self._codes: dict[int, bytes] = {}

    def put(self, offset: int, data: memoryview) -> None:
        """Remember what is to be there."""
        self._codes[offset] = self._code(offset, data)

    def holds(self, offset: int, data: memoryview) -> bool:
        """Whether this is what was to be there."""
        return self._codes[offset] == self._code(offset, data)

    def _code(self, offset: int, data: memoryview) -> bytes:
        return self._mac.encrypt(offset.to_bytes(_NONCE_BYTES, "big"), b"", data)
