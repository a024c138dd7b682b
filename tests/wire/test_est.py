"""EST messages: openssl and `wire.est` can read each other's messages, and invalid ones are refused."""

from __future__ import annotations

import subprocess
from base64 import b64decode, b64encode
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st

from wire import est
from wire.http.connection import Response
from wire.pki.hierarchy import Authority, make_key, make_rsa_key
from wire.pki.request import RequestError, make_request, requested_key

KEY = make_key()
REQUEST = make_request("RAP-0001", KEY)
AUTHORITY = Authority.make("vendor")
LEAF = x509.load_pem_x509_certificate(AUTHORITY.certify("RAP-0001", KEY.public_key()))


def openssl(*arguments: str, content: bytes) -> str:
    completed = subprocess.run(["openssl", *arguments], input=content, capture_output=True, check=True)
    return completed.stdout.decode()


def test_openssl_reads_the_certificates_of_an_answer() -> None:
    body = est.certificates_response([LEAF, AUTHORITY.certificate]).body
    text = openssl("pkcs7", "-inform", "DER", "-print_certs", content=b64decode(body))
    assert text.count("BEGIN CERTIFICATE") == 2
    assert "subject=CN = RAP-0001" in text and "subject=CN = vendor" in text


def test_openssl_verifies_a_request_and_the_issued_certificate(tmp_path: Path) -> None:
    der = b64decode(est.encode_request(REQUEST))
    text = openssl("req", "-inform", "DER", "-verify", "-noout", "-text", content=der)
    assert "CN = RAP-0001" in text and "prime256v1" in text and "ecdsa-with-SHA256" in text
    (tmp_path / "ca.crt").write_bytes(AUTHORITY.certificate.public_bytes(Encoding.PEM))
    verify = ("verify", "-x509_strict", "-purpose", "sslclient", "-CAfile", str(tmp_path / "ca.crt"))
    assert openssl(*verify, content=LEAF.public_bytes(Encoding.PEM)).endswith("OK\n")


@pytest.mark.filterwarnings("ignore:PKCS#7 certificates could not be parsed as DER")
def test_answers_encoded_by_openssl_are_read(tmp_path: Path) -> None:
    (tmp_path / "leaf.crt").write_bytes(LEAF.public_bytes(Encoding.PEM))
    (tmp_path / "ca.crt").write_bytes(AUTHORITY.certificate.public_bytes(Encoding.PEM))
    files = ("-certfile", str(tmp_path / "leaf.crt"), "-certfile", str(tmp_path / "ca.crt"))
    pem = openssl("crl2pkcs7", "-nocrl", *files, "-outform", "PEM", content=b"")
    lines = pem.splitlines()[1:-1]  # base64 with line ends, as some servers send it
    answer = est.read_answer(Response(200, "\r\n".join(lines).encode()))
    assert isinstance(answer, est.Issued) and set(answer.certificates) == {LEAF, AUTHORITY.certificate}


def test_openssl_reads_the_attributes() -> None:
    text = openssl("asn1parse", "-inform", "DER", content=b64decode(est.attributes_response().body))
    names = [line.rsplit(":", 1)[1] for line in text.splitlines() if "OBJECT" in line]
    assert names == ["id-ecPublicKey", "prime256v1", "ecdsa-with-SHA256"]


def test_a_request_is_read_back() -> None:
    assert est.decode_request(est.encode_request(REQUEST)) == REQUEST
    assert requested_key(REQUEST, "RAP-0001") == KEY.public_key()


@pytest.mark.parametrize(
    ("request_", "name", "message"),
    [
        (REQUEST, "RAP-0002", "is for RAP-0001, not RAP-0002"),
        (make_request("RAP-0001", ec.generate_private_key(ec.SECP521R1())), "RAP-0001", "on P-256 or P-384"),
        (make_request("RAP-0001", rsa.generate_private_key(65537, 1024)), "RAP-0001", "RSA of 2048 bits"),
    ],
)
def test_a_request_for_another_name_or_with_an_unsupported_key_is_refused(
    request_: x509.CertificateSigningRequest, name: str, message: str
) -> None:
    with pytest.raises(RequestError, match=message):
        requested_key(request_, name)


def test_a_request_that_was_changed_is_refused() -> None:
    der = REQUEST.public_bytes(Encoding.DER).replace(b"RAP-0001", b"RAP-0002")
    with pytest.raises(RequestError, match="not signed with its own key"):
        requested_key(est.decode_request(b64encode(der)), "RAP-0002")


def test_a_request_with_an_rsa_key_is_accepted() -> None:
    key = make_rsa_key()
    assert requested_key(make_request("RAP-0001", key), "RAP-0001") == key.public_key()


@pytest.mark.parametrize(
    "body", [b"", b"!", b64encode(b"no DER"), b64encode(REQUEST.public_bytes(Encoding.DER))]
)
def test_a_body_without_certificates_is_refused(body: bytes) -> None:
    with pytest.raises(est.EstError):
        est.read_answer(Response(200, body))


@given(st.binary(max_size=300))
def test_arbitrary_bytes_are_refused(body: bytes) -> None:
    for read in (est.decode_request, est.decode_certificates):
        for content in (body, b64encode(body)):
            with pytest.raises(est.EstError):
                read(content)


@pytest.mark.parametrize(
    ("retry_after", "seconds"),
    [("", 0.0), ("90", 90.0), ("99999999", est.RETRY_SECONDS_MAX), ("Wed, 21 Oct 2026 07:28:00 GMT", 3600.0)],
)
def test_status_202_gives_the_seconds_until_the_next_request(retry_after: str, seconds: float) -> None:
    headers = {"retry-after": retry_after} if retry_after else {}
    assert est.read_answer(Response(202, b"", headers)) == est.Waiting(seconds)


def test_a_refusal_has_its_status_and_reason_without_control_characters() -> None:
    answer = est.read_answer(Response(403, b"RAP-0001 is\x1b[31m denied\xff"))
    assert isinstance(answer, est.Refused) and answer.status == 403
    assert answer.reason.isprintable() and answer.reason.startswith("RAP-0001 is")


def test_the_entity_tag_depends_on_the_set_alone() -> None:
    other = Authority.make("other").certificate
    tag, reordered = est.etag_of([LEAF, other]), est.etag_of([other, LEAF])
    assert tag == reordered != est.etag_of([LEAF])
