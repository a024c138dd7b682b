"""Certificates are read identically with the newest cryptography and with the oldest one of a distribution."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from tests.support.crypto import fips
from tests.support.crypto.hierarchy import Hierarchy
from tests.support.paths import ROOT
from wire.tls.x509 import check_issuer, is_same_key, load_certificates, not_after, not_before

OLD = """\
import sys
from pathlib import Path
import cryptography
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from wire.tls.x509 import check_issuer, is_same_key, load_certificates, not_after, not_before
leaf, issuer = (load_certificates(Path(file).read_bytes())[0] for file in sys.argv[1:3])
key = load_pem_private_key(Path(sys.argv[3]).read_bytes(), None)
print(cryptography.__version__.split(".")[0])
print(not_before(leaf).isoformat(), not_after(leaf).isoformat())
check_issuer(leaf, issuer)
for certificate, other in ((leaf, leaf), (issuer, leaf)):
    try:
        check_issuer(certificate, other)
    except (InvalidSignature, ValueError, TypeError) as error:
        print("refused")
print(is_same_key(key.public_key(), leaf.public_key()), is_same_key(key.public_key(), issuer.public_key()))
"""


def test_a_file_that_is_cut_off_or_empty_is_refused(pki: Hierarchy) -> None:
    pem = pki.box.certificate.read_bytes()
    assert [certificate.subject for certificate in load_certificates(pem)] == [
        certificate.subject for certificate in x509.load_pem_x509_certificates(pem)
    ]
    for wrong in (b"", b"nothing", pem[:-30]):
        with pytest.raises(ValueError, match=r"no certificate|cut off"):
            load_certificates(wrong)


def _pair(pki: Hierarchy) -> tuple[x509.Certificate, x509.Certificate]:
    """Return the certificate of the box, and that of the vendor's CA."""
    files = (pki.box.certificate, pki.instrument.authorities)
    leaf, issuer = (load_certificates(file.read_bytes())[0] for file in files)
    return leaf, issuer


def test_another_issuer_is_refused(pki: Hierarchy) -> None:
    leaf, issuer = _pair(pki)
    check_issuer(leaf, issuer)
    with pytest.raises((InvalidSignature, ValueError)):
        check_issuer(issuer, leaf)
    assert not_before(leaf) < not_after(leaf)
    assert not_after(leaf).tzinfo is UTC
    key = load_pem_private_key(pki.box.key.read_bytes(), None)
    assert is_same_key(key.public_key(), leaf.public_key())
    assert not is_same_key(key.public_key(), issuer.public_key())
    assert not is_same_key(key, key)


@pytest.mark.skipif(not fips.CAN_RUN, reason=fips.REASON)
def test_the_distributions_version_reads_the_same_values(pki: Hierarchy, tmp_path: Path) -> None:
    packages = fips.distributions_cryptography(tmp_path)
    files = [pki.box.certificate, pki.instrument.authorities, pki.box.key]
    environment = {"PYTHONPATH": f"{packages}:{ROOT}"}
    command = [sys.executable, "-W", "ignore", "-c", OLD, *map(str, files)]
    completed = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert completed.returncode == 0, completed.stderr
    leaf, _ = _pair(pki)
    version, *read = completed.stdout.splitlines()
    assert int(version) < 45, "this test is for versions without the functions of later ones"
    assert read == [
        f"{not_before(leaf).isoformat()} {not_after(leaf).isoformat()}",
        "refused",
        "refused",
        "True False",
    ]
