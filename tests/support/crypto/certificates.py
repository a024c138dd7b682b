"""Certificates for tests of TLS, created once a session, because generating keys is slow."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from wire.pki.hierarchy import Authority, Validity, make_key
from wire.tls.context import Identity


@dataclass(frozen=True)
class Certificates:
    """The vendor's CA for boxes, a public chain for the data center, and invalid identities."""

    server: Identity
    box: Identity
    expired_box: Identity
    stranger: Identity
    """An identity issued by another vendor's CA, which trusts this data center."""
    expired_server: Identity


def make_certificates(folder: Path) -> Certificates:
    """Issue all identities in `folder`, with one key."""
    key, hosts, past = make_key(), ("localhost", "127.0.0.1"), Validity.days(-1)
    vendor, other = Authority.make("vendor"), Authority.make("other vendor")
    public = Authority.make("public root").subordinate("public intermediate")

    def box(name: str, authority: Authority, validity: Validity | None = None) -> Identity:
        return authority.issue(folder / name, "RAP-0001", trusts=public, key=key, validity=validity)

    def server(name: str, validity: Validity | None = None) -> Identity:
        return public.issue(folder / name, "dc", hosts=hosts, trusts=vendor, key=key, validity=validity)

    return Certificates(
        server("dc"),
        box("box", vendor),
        box("old", vendor, past),
        box("other", other),
        server("old-dc", past),
    )
