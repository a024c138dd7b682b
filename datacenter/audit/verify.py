"""Verifies the audit log of a configured data center, for `rap dc audit verify`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from datacenter.audit.trail import AuditTrail
from datacenter.config import load_config
from datacenter.store.shards import open_store
from settings.problems import SettingsError
from wire.hash_chain import ChainHead


def audit_state(config_path: Path, known: Sequence[ChainHead]) -> tuple[ChainHead, list[str]]:
    """Verify the audit log of the configured database; return its head, and what is wrong.

    Raises: SettingsError; StoreError.
    """
    try:
        database = load_config(config_path).store
        store = open_store(database.url, database.shard_urls)
    except ValueError as error:
        if isinstance(error, SettingsError):
            raise
        raise SettingsError.at(config_path, "store.url", str(error)) from error
    try:
        trail = AuditTrail(store)
        return trail.head(), trail.problems(known)
    finally:
        store.close()
