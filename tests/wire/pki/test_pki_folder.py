"""A certificate hierarchy in a folder: issuing, signing requests, revocation and trust."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from wire.pki import directory as pki_directory
from wire.tls.context import Identity, client_context, server_context
from wire.tls.revocation import RevocationList


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pki")
    pki_directory.init(folder)
    return folder


def cipher_after_handshake(client: Identity, server: Identity, host: str) -> str:
    """Complete a TLS handshake in memory; return the cipher suite."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client_end = ssl.SSLContext.wrap_bio(client_context(client), to_client, to_server, server_hostname=host)
    server_end = server_context(server).wrap_bio(to_server, to_client, server_side=True)
    ends = {client_end, server_end}
    while ends:
        for end in list(ends):
            try:
                end.do_handshake()
                ends.discard(end)
            except ssl.SSLWantReadError:
                pass
    suite = client_end.cipher()
    assert suite is not None
    return suite[0]


def test_a_box_and_a_data_center_trust_each_other(folder: Path) -> None:
    box = pki_directory.issue(folder, "RAP-0001", "box")
    datacenter = pki_directory.issue(folder, "DC", "datacenter", ("reports.test",))
    assert cipher_after_handshake(box, datacenter, "reports.test") == "TLS_AES_128_GCM_SHA256"
    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        cipher_after_handshake(box, datacenter, "other.test")


def test_certificates_of_another_hierarchy_are_not_trusted(folder: Path, tmp_path: Path) -> None:
    pki_directory.init(tmp_path)
    stranger = pki_directory.issue(tmp_path, "RAP-0002", "box")
    datacenter = pki_directory.issue(folder, "DC-2", "datacenter", ("reports.test",))
    with pytest.raises(ssl.SSLCertVerificationError):
        cipher_after_handshake(stranger, datacenter, "reports.test")


def request(file: Path, key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey, name: str = "RAP-0003") -> Path:
    """Return a certificate request that contains more than its name."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    builder = builder.add_extension(
        x509.SubjectAlternativeName([x509.DNSName("reports.test")]), critical=False
    )
    file.write_bytes(builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    return file


def rsa_key(bits: int = 2048) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, bits)


@pytest.mark.parametrize("key", [rsa_key(), ec.generate_private_key(ec.SECP384R1())], ids=["rsa", "ec"])
def test_a_signing_request_gets_a_certificate_for_its_key(
    folder: Path, tmp_path: Path, key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey
) -> None:
    name = f"RAP-{type(key).__name__[:4].upper()}"
    files = pki_directory.issue_for(folder, name, "box", request(tmp_path / "request.csr", key, name))
    assert [path.name for path in files] == [f"{name.lower()}.crt", f"{name.lower()}.ca.crt"]
    assert not (folder / f"{name.lower()}.key").exists()
    certificate = x509.load_pem_x509_certificate(files[0].read_bytes())
    extensions = certificate.extensions
    assert not extensions.get_extension_for_class(x509.BasicConstraints).value.ca, (
        "although the request asks for it"
    )
    names = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == [name.lower()]
    (tmp_path / "key").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    datacenter = pki_directory.issue(folder, f"DC-{name[4:]}", "datacenter", ("reports.test",))
    box = Identity(files[0], tmp_path / "key", files[1])
    assert cipher_after_handshake(box, datacenter, "reports.test") == "TLS_AES_128_GCM_SHA256"
    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        cipher_after_handshake(replace(datacenter, authorities=folder / "vendor-ca.crt"), box, "reports.test")


def tampered(file: Path) -> Path:
    """Return the request with the signature of another request."""
    other = request(file.with_name("other.csr"), rsa_key())
    original, foreign = (
        x509.load_pem_x509_csr(path.read_bytes()) for path in (request(file, rsa_key()), other)
    )
    changed = original.public_bytes(serialization.Encoding.DER).replace(original.signature, foreign.signature)
    file.write_bytes(x509.load_der_x509_csr(changed).public_bytes(serialization.Encoding.PEM))
    return file


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda file: file, "cannot be read"),
        (lambda file: file.write_text("no") and file, "is not a certificate request"),
        (tampered, "is not signed with its own key"),
        (lambda file: request(file, rsa_key(), "RAP-0004"), "is for RAP-0004, not RAP-0003"),
        (lambda file: request(file, rsa_key(1024)), "must be RSA of 2048 bits or more"),
        (lambda file: request(file, ec.generate_private_key(ec.SECP521R1())), "or on P-256 or P-384"),
    ],
)
def test_an_invalid_signing_request_is_reported_and_writes_nothing(
    folder: Path, tmp_path: Path, make: Callable[[Path], Path], message: str
) -> None:
    before = sorted(folder.iterdir())
    with pytest.raises(pki_directory.PkiError, match=message):
        pki_directory.issue_for(folder, "RAP-0003", "box", make(tmp_path / "request.csr"))
    assert sorted(folder.iterdir()) == before


def test_existing_files_are_not_overwritten(folder: Path, tmp_path: Path) -> None:
    pki_directory.issue(folder, "RAP-0009", "box")
    with pytest.raises(pki_directory.PkiError, match=r"rap-0009\.crt exists"):
        pki_directory.issue_for(
            folder, "RAP-0009", "box", request(tmp_path / "request.csr", rsa_key(), "RAP-0009")
        )


def test_revocations_accumulate_and_the_list_is_signed_by_the_vendor(folder: Path) -> None:
    for name in ("RAP-0101", "RAP-0102"):
        pki_directory.issue(folder, name, "box")
        crl = pki_directory.revoke(folder, [name])
    pki_directory.revoke(folder, [])
    certificates = [
        x509.load_pem_x509_certificate((folder / f"{stem}.crt").read_bytes())
        for stem in ("vendor-ca", "rap-0101", "rap-0102")
    ]
    revocations = RevocationList(crl, folder / "vendor-ca.crt")
    revoked = [
        (certificate.issuer.public_bytes(), certificate.serial_number) in revocations
        for certificate in certificates
    ]
    assert revoked == [False, True, True]


def test_a_certificate_that_cannot_be_revoked_is_named(folder: Path) -> None:
    pki_directory.issue(folder, "DC-9", "datacenter")
    with pytest.raises(pki_directory.PkiError, match=r"dc-9\.crt: was not issued by vendor-ca"):
        pki_directory.revoke(folder, ["DC-9"])
    with pytest.raises(pki_directory.PkiError, match=r"rap-0999\.crt is missing"):
        pki_directory.revoke(folder, ["RAP-0999"])
    with pytest.raises(pki_directory.PkiError, match="capital letters"):
        pki_directory.revoke(folder, ["../x"])
