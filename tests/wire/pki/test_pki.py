"""The test hierarchy: chains that verify, equal sizes, and keys that only their owner can read."""

from __future__ import annotations

import datetime
import stat
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509 import verification

from tests.support.crypto.certificates import Certificates
from wire.pki.hierarchy import Authority, PrivateKey, Validity, make_rsa_key


@pytest.fixture(scope="module")
def key() -> PrivateKey:
    return make_rsa_key()


def test_a_chain_through_an_intermediate_leads_to_the_root(certificates: Certificates) -> None:
    leaf, *intermediates = x509.load_pem_x509_certificates(certificates.server.certificate.read_bytes())
    roots = x509.load_pem_x509_certificates(certificates.box.authorities.read_bytes())
    verifier = (
        verification.PolicyBuilder()
        .store(verification.Store(roots))
        .build_server_verifier(x509.DNSName("localhost"))
    )
    assert verifier.verify(leaf, intermediates)[-1] == roots[0]


def test_only_the_owner_can_read_a_key(certificates: Certificates) -> None:
    assert stat.S_IMODE(certificates.box.key.stat().st_mode) == 0o600


def test_a_certificate_is_for_host_names_or_addresses(certificates: Certificates) -> None:
    certificate = x509.load_pem_x509_certificate(certificates.server.certificate.read_bytes())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["localhost"]
    assert [str(address) for address in names.get_values_for_type(x509.IPAddress)] == ["127.0.0.1"]


def test_certificates_of_equal_names_with_rsa_keys_have_equal_sizes(tmp_path: Path, key: PrivateKey) -> None:
    authority = Authority.make("vendor", key)
    sizes = set()
    for number in range(20):
        identity = authority.issue(tmp_path / str(number), "RAP-0001", trusts=authority, key=key)
        sizes.add(identity.certificate.stat().st_size)
    assert len(sizes) == 1


def test_no_two_certificates_have_the_same_serial_number(tmp_path: Path, key: PrivateKey) -> None:
    authority = Authority.make("vendor")
    authority.subordinate("intermediate")
    numbers = {authority.certificate.serial_number}
    for name in ("a", "b", "c"):
        identity = authority.issue(tmp_path, name, trusts=authority, key=key)
        numbers.add(x509.load_pem_x509_certificate(identity.certificate.read_bytes()).serial_number)
    assert len(numbers) == 4


def test_a_certificate_with_negative_validity_has_expired() -> None:
    now = datetime.datetime.now(datetime.UTC)
    expired, current = Validity.days(-1), Validity.days(1)
    assert expired.start < expired.end < now
    assert current.start < now < current.end
