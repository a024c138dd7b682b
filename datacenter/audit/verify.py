"""Verifies the audit log of a configured data center, for `rap dc audit verify`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey

from datacenter.audit.boxes import box_chain_problems
from datacenter.audit.trail import AuditTrail
from datacenter.config import load_config
from datacenter.store.shards import open_store
from datacenter.store.store import Store
from settings.problems import SettingsError
from wire.audit_head import KnownHead
from wire.hash_chain import ChainHead
from wire.pki.signature import load_private_key


def audit_state(
    config_path: Path, known: Sequence[ChainHead], of_boxes: Sequence[tuple[str, KnownHead]] = ()
) -> tuple[ChainHead, list[str]]:
    """Verify the audit log of the configured database, and the audit records of boxes.

    `of_boxes` are heads that boxes have shown. Return the head of the log, and the problems.

    Raises: SettingsError; StoreError.
    """
    with audited_store(config_path) as store:
        trail = AuditTrail(store)
        key = _public_key(config_path)
        return trail.head(), [*trail.problems(known), *box_chain_problems(store, "", key, of_boxes)]


def _public_key(config_path: Path) -> EllipticCurvePublicKey | None:
    """Return the key with which heads of boxes' chains are countersigned; None if they are not countersigned."""
    audit = load_config(config_path).audit
    return load_private_key(audit.key).public_key() if audit else None


@contextmanager
def audited_store(config_path: Path) -> Iterator[Store]:
    """Open the configured database. Raises: SettingsError; StoreError."""
    try:
        database = load_config(config_path).store
        store = open_store(database.url, database.shard_urls)
    except ValueError as error:
        if isinstance(error, SettingsError):
            raise
        raise SettingsError.at(config_path, "store.url", str(error)) from error
    try:
        yield store
    finally:
        store.close()
