"""Certificates: the authorities that the box trusts, and its own identity; private keys are never read."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from trust.evidence import Evidence
from trust.fact import Fact, fact, names
from trust.machine import ExaminedBox
from wire.tls.x509 import load_certificates

AUTHORITIES: Final = {
    "certificates.vendor-authority": "/var/lib/rap/identity/vendor-ca.crt",
    "certificates.data-center-authority": "/var/lib/rap/identity/datacenter-root.crt",
    "certificates.audit-authority": "/etc/rap/audit-authority.pem",
}
BOX: Final = "/var/lib/rap/identity/box.crt"
ANCHORS: Final = "/etc/pki/ca-trust/source/anchors/*"


def facts(machine: ExaminedBox) -> Iterator[Fact]:
    """Yield authorities by their SHA-256, and the subject and key of the box's certificate."""
    for key, path in AUTHORITIES.items():
        if (file := machine.file(path)) and (certificates := _certificates(file)):
            yield fact(key, [_authority(each) for each in certificates], file)
    if (own := machine.file(BOX)) and (certificates := _certificates(own)):
        box = certificates[0]
        yield fact("certificates.box", [f"{box.subject.rfc4514_string()}, {_key(box)}"], own)
        yield fact("certificates.box-issuer", [box.issuer.rfc4514_string()], own)
    listed = machine.paths(ANCHORS)
    files = [file for path in names(listed) if (file := machine.file(path))]
    anchors = [_authority(each) for file in files for each in _certificates(file)]
    yield fact("certificates.system-anchors", sorted(anchors), listed, *files)


def _certificates(file: Evidence) -> list[x509.Certificate]:
    try:
        return load_certificates(file.text.encode())
    except ValueError:
        return []


def _authority(certificate: x509.Certificate) -> str:
    return f"{certificate.subject.rfc4514_string()} SHA-256 {certificate.fingerprint(hashes.SHA256()).hex()}"


def _key(certificate: x509.Certificate) -> str:
    key = certificate.public_key()
    if isinstance(key, ec.EllipticCurvePublicKey):
        return f"ECDSA {key.curve.name}"
    return f"RSA {key.key_size}" if isinstance(key, rsa.RSAPublicKey) else type(key).__name__
