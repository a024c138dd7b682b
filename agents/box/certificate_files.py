"""The files of the box's identity, as its configuration names them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from settings.types import Table

if TYPE_CHECKING:
    from wire.tls.context import Identity


class BoxCertificates(Table, frozen=True):
    """The box's certificate and key, and the CAs it trusts. PEM files."""

    certificate: Path
    key: Path
    vendor_authority: Path
    datacenter_authority: Path

    def server_identity(self) -> Identity:
        """Certificate, key and trusted CA for TLS connections from instruments."""
        from wire.tls.context import Identity

        return Identity(self.certificate, self.key, self.vendor_authority)

    def client_identity(self) -> Identity:
        """Certificate, key and trusted CA for TLS connections to the data center."""
        from wire.tls.context import Identity

        return Identity(self.certificate, self.key, self.datacenter_authority)
