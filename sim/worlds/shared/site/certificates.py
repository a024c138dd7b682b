"""The certificates of a lab.

The vendor's CA signs the certificates of the box and the instruments; an intermediate CA of a root like that of a
public PKI signs those of the data center. All certificates of all labs of a process share one key: nothing in a lab
depends on different keys, and generating one takes as long as simulating half an hour. It is an RSA key, since the
length of ECDSA signatures varies, and with it the moment at which a simulated handshake ends.
"""

from __future__ import annotations

from datetime import datetime
from functools import cache
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from agents.enrolment.certificate_files import BoxCertificates
from datacenter.vendor_ca.authority import VendorAuthority
from sim.worlds.shared.site.addresses import BOX_NAME, BOX_SERIAL, DATACENTER_NAME, SIEM_NAME
from wire.pki.hierarchy import Authority, PrivateKey, Validity, make_rsa_key
from wire.tls.context import Identity


class LabKeys(NamedTuple):
    """The key of all certificates of a lab, and those that a box and an instrument make when they request one."""

    shared: PrivateKey
    requested: PrivateKey
    instrument: PrivateKey


@cache
def rsa_keys() -> LabKeys:
    """Return the keys of labs, always the same ones, for the reasons above."""
    return LabKeys(make_rsa_key(), make_rsa_key(), make_rsa_key())


class LabCertificates:
    """The CAs and certificates of one lab, issued at `now` and written to `folder`."""

    def __init__(self, folder: Path, now: datetime, key: PrivateKey | None = None) -> None:
        self._folder, self._now = folder, now
        self._key = key or rsa_keys().shared
        self._vendor = Authority.make("vendor root", self._key, now)
        self._public = Authority.make("public root", self._key, now)
        self._issuing = self._public.subordinate("public issuing", key=self._key)

    def vendor_authority(self) -> VendorAuthority:
        """Return the vendor's CA, as the data center uses it."""
        return VendorAuthority(self._vendor.certificate, self._key, (), (self._vendor.root,))

    def vendor_files(self) -> tuple[Path, Path]:
        """Return the certificate and the key of the vendor's CA, as PEM files."""
        self._folder.mkdir(parents=True, exist_ok=True)
        certificate, key = self._folder / "vendor.crt", self._folder / "vendor.key"
        certificate.write_bytes(self._vendor.certificate.public_bytes(Encoding.PEM))
        key.touch(mode=0o600)
        key.write_bytes(self._key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        return certificate, key

    def box(self, *, is_expired: bool = False) -> BoxCertificates:
        """Return the box's certificate and the CAs that it trusts; with `is_expired`, it expired two years ago."""
        validity = Validity.days(-730, self._now) if is_expired else None
        client_identity = self._issue(BOX_SERIAL, trusts=self._public, validity=validity)
        server_identity = self._issue(f"{BOX_SERIAL}-LAN", trusts=self._vendor)
        return BoxCertificates(
            certificate=client_identity.certificate,
            key=client_identity.key,
            vendor_authority=server_identity.authorities,
            datacenter_authority=client_identity.authorities,
        )

    def box_of_request(self, request: Path, *, is_expired: bool = False) -> Path:
        """Return a certificate for the key of the box's request (PKCS #10, PEM); the key itself is on its disk."""
        validity = Validity.days(-730, self._now) if is_expired else None
        key = x509.load_pem_x509_csr(request.read_bytes()).public_key()
        assert isinstance(key, RSAPublicKey | EllipticCurvePublicKey)
        certificate = request.with_suffix(".crt")
        certificate.write_bytes(self._vendor.certify(BOX_SERIAL, key, hosts=(BOX_NAME,), validity=validity))
        return certificate

    def instrument(self, serial: str, *, is_expired: bool = False) -> Identity:
        """Return the certificate of an instrument. With `is_expired` it expired two years ago."""
        validity = Validity.days(-730, self._now) if is_expired else None
        return self._issue(serial, trusts=self._vendor, validity=validity)

    def _issue(self, name: str, *, trusts: Authority, validity: Validity | None = None) -> Identity:
        return self._vendor.issue(
            self._folder, name, hosts=(BOX_NAME,), trusts=trusts, key=self._key, validity=validity
        )

    def datacenter(self) -> dict[str, Identity]:
        """Return the certificates that the data center can present: "good", "expired", and "wrong" (of an
        untrusted CA).
        """
        wrong = Authority.make("another root", self._key, self._now)
        expired = Validity.days(-30, self._now)
        return {
            "good": self._datacenter_identity(self._issuing, "good"),
            "expired": self._datacenter_identity(self._issuing, "expired", expired),
            "wrong": self._datacenter_identity(wrong, "wrong"),
        }

    def siem(self) -> tuple[Identity, Identity]:
        """Return the certificates of the SIEM, and of the data center as its client."""
        siem, client = (
            self._vendor.issue(self._folder, name, hosts=(name,), trusts=self._vendor, key=self._key)
            for name in (SIEM_NAME, f"{DATACENTER_NAME}-siem")
        )
        return siem, client

    def inspector(self) -> Identity:
        """Return the certificate that an inspecting proxy presents in place of the data center's."""
        return self._datacenter_identity(
            Authority.make("clinic TLS inspection", self._key, self._now), "inspector"
        )

    def _datacenter_identity(
        self, authority: Authority, folder: str, validity: Validity | None = None
    ) -> Identity:
        return authority.issue(
            self._folder / folder,
            DATACENTER_NAME,
            hosts=(DATACENTER_NAME,),
            trusts=self._vendor,
            key=self._key,
            validity=validity,
        )
