"""Certificates for tests, issued once a session. All end entities share one key, because generating keys is slow."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from wire.pki.hierarchy import Authority, PrivateKey, Validity, make_key
from wire.tls.context import Identity

LOOPBACK = ("127.0.0.1", "localhost")


@dataclass(frozen=True)
class Hierarchy:
    box: Identity
    """The box's identity towards the data center; `box_server` is its identity towards instruments."""
    box_server: Identity
    datacenter: Identity
    instrument: Identity
    """CHEM-1. Of the following identities, only HEMA-1 (`other_instrument`) is valid; the others must be refused."""
    other_instrument: Identity
    stranger: Identity
    expired: Identity
    impostor: Identity

    @classmethod
    def make(cls, folder: Path, key: PrivateKey | None = None) -> Hierarchy:
        """Issue all certificates in a folder. With `key`, the CAs and all end entities use this key."""
        vendor, public, strange = (
            Authority.make("VENDOR", key),
            Authority.make("PUBLIC", key),
            Authority.make("STRANGE", key),
        )
        issuing = public.subordinate("PUBLIC ISSUING", key)
        key = key or make_key()
        datacenter = issuing.issue(folder, "INGEST", hosts=LOOPBACK, trusts=vendor, key=key)
        box = vendor.issue(folder, "RAP-1", hosts=LOOPBACK, trusts=public, key=key)
        instrument = vendor.issue(folder, "CHEM-1", trusts=vendor, key=key)
        return cls(
            box=box,
            box_server=Identity(box.certificate, box.key, instrument.authorities),
            datacenter=datacenter,
            instrument=instrument,
            other_instrument=vendor.issue(folder, "HEMA-1", trusts=vendor, key=key),
            stranger=vendor.issue(folder, "NOBODY-1", trusts=vendor, key=key),
            expired=vendor.issue(
                folder / "old", "CHEM-1", trusts=vendor, key=key, validity=Validity.days(-1)
            ),
            impostor=strange.issue(folder / "strange", "CHEM-1", trusts=vendor, key=key),
        )
