"""Damaged certificates: each is refused with a reason, and raises no other error."""

from __future__ import annotations

from base64 import encodebytes
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from random import Random

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

from agents.box.uplink.trust import name_of
from wire.pki.directory import init, issue
from wire.tls.certificates import CERTIFICATE_ERRORS
from wire.tls.peer import PeerCertificate
from wire.tls.revocation import CrlError, RevocationList


@pytest.fixture(scope="module")
def leaf(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The certificate of an instrument, in DER."""
    folder = tmp_path_factory.mktemp("pki")
    init(folder)
    pem = issue(folder, "CHEM-0001", "instrument").certificate.read_bytes()
    return x509.load_pem_x509_certificates(pem)[0].public_bytes(Encoding.DER)


def damaged(der: bytes) -> Iterator[bytes]:
    """Yield copies of the certificate, each with one bit changed."""
    random = Random(3)
    for _ in range(500):
        data = bytearray(der)
        data[random.randrange(len(data))] ^= 1 << random.randrange(8)
        yield bytes(data)


def readable(der: bytes) -> Iterator[bytes]:
    """Yield those damaged certificates that can be parsed."""
    for data in damaged(der):
        with suppress(*CERTIFICATE_ERRORS):
            x509.load_der_x509_certificate(data)
            yield data


def test_damage_causes_more_than_value_errors(leaf: bytes) -> None:
    kinds = set()
    for data in damaged(leaf):
        try:
            x509.load_der_x509_certificate(data).public_key()
        except Exception as error:
            kinds.add(type(error))
    assert len(kinds) > 1
    assert all(issubclass(kind, CERTIFICATE_ERRORS) for kind in kinds)


def test_damaged_certificates_of_a_chain_are_left_out(leaf: bytes) -> None:
    for data in damaged(leaf):
        PeerCertificate(leaf, [data])


def test_the_purpose_of_a_damaged_certificate_can_be_checked(leaf: bytes) -> None:
    problems = {
        PeerCertificate(data).problem(ExtendedKeyUsageOID.CLIENT_AUTH, None) for data in readable(leaf)
    }
    assert None in problems and len(problems) > 1


def test_the_name_of_any_certificate_can_be_displayed(leaf: bytes) -> None:
    for data in readable(leaf):
        assert name_of(x509.load_der_x509_certificate(data), of_issuer=False)


def test_a_damaged_authority_beside_a_revocation_list_is_reported(leaf: bytes, tmp_path: Path) -> None:
    authority = tmp_path / "authority.pem"
    (tmp_path / "list.pem").write_text("-----BEGIN X509 CRL-----\n-----END X509 CRL-----\n")
    for data in damaged(leaf):
        authority.write_bytes(_pem(data))
        with pytest.raises(CrlError):
            RevocationList(tmp_path / "list.pem", authority)


def _pem(der: bytes) -> bytes:
    return b"-----BEGIN CERTIFICATE-----\n" + encodebytes(der) + b"-----END CERTIFICATE-----\n"
