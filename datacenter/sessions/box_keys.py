"""The keys of boxes that countersign grants: the keys of the certificates with which the boxes have connected.

They are kept in the store, so that a third party can verify grants later, including grants from before a renewal of
the certificate.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key
from sqlalchemy import delete, insert, select

from datacenter.store.store import Store
from datacenter.store.tables.schema import box_keys
from wire.session.cose import Keys, key_set
from wire.tls.certificates import CERTIFICATE_ERRORS

KEYS_VALID: Final = 2
"""A box whose certificate is being renewed has two keys for a moment."""
_K: Final = box_keys.c
_log: Final = logging.getLogger(__name__)


class BoxKeys:
    """The keys of all boxes; the latest two of each are valid."""

    def __init__(
        self,
        store: Store,
        executor: Executor,
        now_ms: Callable[[], int],
        given: Mapping[str, EllipticCurvePublicKey] | None = None,
    ) -> None:
        """Read the known keys; new keys are stored on `executor`.

        `given` are keys of boxes that sign with a key other than their certificate's. Raises: StoreError.
        """
        self._given = {box: key_set(key) for box, key in (given or {}).items()}
        self._store, self._executor, self._now_ms = store, executor, now_ms
        self._known: dict[str, list[str]] = {}
        self._keys: dict[str, Keys] = {}
        self._unusable: set[str] = set()
        for row in store.read(select(_K.box, _K.key).order_by(_K.used_from_ms)):
            self._known.setdefault(row.box, []).append(row.key)

    def of(self, box: str) -> Keys:
        """Return the valid keys of a box; none if it has not connected yet."""
        if box in self._given:
            return self._given[box]
        if box not in self._keys:
            keys = [load_pem_public_key(pem.encode()) for pem in self._known.get(box, [])[-KEYS_VALID:]]
            self._keys[box] = key_set(*(key for key in keys if isinstance(key, EllipticCurvePublicKey)))
        return self._keys[box]

    async def learn(self, box: str, certificate: bytes | None) -> None:
        """Store the key of the certificate (DER) with which a box is connected; committed on return.

        A key of another kind cannot sign grants, and is logged. Raises: StoreError.
        """
        if box in self._given:
            return
        key = _key_of(certificate) if certificate else None
        if not isinstance(key, EllipticCurvePublicKey) or not isinstance(key.curve, SECP256R1):
            if box not in self._unusable:
                self._unusable.add(box)
                _log.warning("%s cannot sign grants: its certificate has no key of curve P-256", box)
            return
        pem = key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
        known = self._known.setdefault(box, [])
        if pem in known[-KEYS_VALID:]:
            return
        await asyncio.get_running_loop().run_in_executor(self._executor, self._save, box, pem)
        self._known[box] = [*(one for one in known if one != pem), pem]
        self._keys.pop(box, None)

    def _save(self, box: str, pem: str) -> None:
        values = {"box": box, "key": pem, "used_from_ms": self._now_ms()}
        with self._store.transaction() as connection:
            connection.execute(delete(box_keys).where(_K.box == box, _K.key == pem))
            connection.execute(insert(box_keys).values(values))


def _key_of(certificate: bytes) -> object:
    """Return the key of a certificate (DER); None if it cannot be read."""
    try:
        return x509.load_der_x509_certificate(certificate).public_key()
    except CERTIFICATE_ERRORS:
        return None
