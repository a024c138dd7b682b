"""The files of a device's identity, as its configuration names them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from settings.types import Table

if TYPE_CHECKING:
    from wire.tls.context import Identity
    from wire.tls.identity import Inspection


class BoxCertificates(Table, frozen=True):
    """The box's certificate and key, and the CAs it trusts. PEM files."""

    certificate: Path
    key: Path
    vendor_authority: Path
    datacenter_authority: Path

    def server_identity(self) -> Identity:
        """Return certificate, key and trusted CA for TLS connections from instruments."""
        from wire.tls.context import Identity

        return Identity(self.certificate, self.key, self.vendor_authority)

    def client_identity(self) -> Identity:
        """Return certificate, key and trusted CA for TLS connections to the data center."""
        from wire.tls.context import Identity

        return Identity(self.certificate, self.key, self.datacenter_authority)

    def inspect(self, now_s: float) -> Inspection:
        """Return the problems of the certificate, its key and the trusted CAs at this time, in seconds since 1970."""
        from wire.tls.identity import CLIENT, SERVER, inspect_identity

        trusted = [self.datacenter_authority]
        return inspect_identity(
            self.certificate, self.key, self.vendor_authority, trusted, (SERVER, CLIENT), now_s
        )


class InstrumentCertificates(BoxCertificates, frozen=True):
    """An instrument's certificate and key, and the vendor's CA, which it trusts for the box."""

    @classmethod
    def of(cls, identity: Identity) -> InstrumentCertificates:
        """Return the files of an identity."""
        return cls(identity.certificate, identity.key, identity.authorities, identity.authorities)

    def client_identity(self) -> Identity:
        """Return certificate, key and trusted CA for TLS connections to the box."""
        return self.server_identity()
