"""httpd serves the page with the box's current certificate, or with the flashed one if its key is in a TPM."""

from __future__ import annotations

import http.client
import ssl
import subprocess
from collections.abc import Iterator
from ipaddress import IPv4Interface
from pathlib import Path

import msgspec
import pytest

from agents.box.page.certificate import publish_certificate
from agents.enrolment.certificate_files import BoxCertificates, InstrumentCertificates
from agents.provision.page import PAGE
from tests.support.agents.served_page import ADDRESSES, ServedPage, served_page
from tests.support.agents.sessions.box import PORT
from tests.support.eventually import WAIT_SECONDS_MAX, poll_until
from tests.support.httpd import CAN_RUN, HTTPD, REASON, client_tls, configure, make_pki
from tests.support.wire.grants import OFFER
from wire.pki.hierarchy import Authority
from wire.tls.tpm import HEADER

HOST = str(ADDRESSES[PORT].ip)
needs_httpd = pytest.mark.skipif(not CAN_RUN, reason=REASON)


@pytest.fixture(scope="module")
def vendor() -> Authority:
    return Authority.make("VENDOR")


@pytest.fixture
def flashed(vendor: Authority, tmp_path: Path) -> BoxCertificates:
    return InstrumentCertificates.of(vendor.issue(tmp_path / "flashed", "RAP-0001", trusts=vendor))


@pytest.fixture
def renewed(vendor: Authority, tmp_path: Path) -> BoxCertificates:
    return InstrumentCertificates.of(vendor.issue(tmp_path / "renewed", "RAP-0001", trusts=vendor))


@pytest.fixture
def served(tmp_path: Path) -> Iterator[ServedPage]:
    (folder := tmp_path / "httpd").mkdir()
    with served_page(folder, make_pki(tmp_path / "pki")) as page:
        yield page
        page.end_all()


def connect(served: ServedPage) -> http.client.HTTPSConnection:
    connection = http.client.HTTPSConnection(
        HOST,
        served.http_ports[PORT],
        context=client_tls(),
        timeout=WAIT_SECONDS_MAX,
        source_address=(HOST, 0),
    )
    connection.connect()
    return connection


def shown(served: ServedPage) -> str:
    """Return the certificate that httpd presents (PEM)."""
    connection = connect(served)
    assert isinstance(connection.sock, ssl.SSLSocket)
    certificate = connection.sock.getpeercert(binary_form=True)
    connection.close()
    assert certificate
    return ssl.DER_cert_to_PEM_cert(certificate)


def certificate_of(files: BoxCertificates) -> str:
    """Return the content of the certificate file (PEM)."""
    return files.certificate.read_text()


def reload(served: ServedPage) -> None:
    """Do what `systemctl reload httpd@rap.service` does."""
    assert HTTPD
    subprocess.run([HTTPD, "-k", "graceful", "-f", served.configuration], check=True, capture_output=True)


@needs_httpd
def test_a_new_certificate_is_used_without_ending_requests(
    served: ServedPage, flashed: BoxCertificates, renewed: BoxCertificates
) -> None:
    waiting = connect(served)
    waiting.request("GET", "/events")
    identifier = waiting.getresponse().read().decode().partition("id: ")[2].partition("\n")[0]
    waiting.request("GET", "/events", headers={"Last-Event-ID": identifier})
    publish_certificate(served.certificate, renewed, flashed)
    reload(served)
    poll_until(lambda: shown(served) == certificate_of(renewed))
    other = connect(served)
    other.request("GET", "/")
    assert other.getresponse().status == 200
    other.close()
    served.offer()
    assert OFFER.staff in waiting.getresponse().read().decode()
    waiting.close()


@needs_httpd
def test_httpd_sends_no_dns_query_for_the_name_of_the_box(tmp_path: Path) -> None:
    """Otherwise each start and reload would wait for a DNS answer for each port."""
    (folder := tmp_path / "httpd").mkdir()
    address = IPv4Interface("192.0.2.1/24")  # has no name in DNS (RFC 5737)
    configuration, _ = configure(folder, make_pki(tmp_path / "pki"), {PORT: address}, tcp_port=PAGE)
    assert HTTPD
    result = subprocess.run([HTTPD, "-t", "-f", configuration], capture_output=True, text=True, check=True)
    assert "resolve" not in result.stderr and "Syntax OK" in result.stderr


def test_key_and_certificate_are_one_file_for_root_alone(
    tmp_path: Path, flashed: BoxCertificates, renewed: BoxCertificates
) -> None:
    file = tmp_path / "identity.pem"
    for files in (flashed, renewed):
        publish_certificate(file, files, flashed)
        assert file.read_text() == files.key.read_text() + files.certificate.read_text()
        assert file.stat().st_mode & 0o777 == 0o600
    before = file.stat().st_ino
    publish_certificate(file, renewed, flashed)
    assert file.stat().st_ino == before  # httpd needs no restart
    ssl.create_default_context().load_cert_chain(file)


def test_a_key_in_a_tpm_is_not_published(tmp_path: Path, flashed: BoxCertificates) -> None:
    """httpd cannot sign with a TPM key."""
    (key := tmp_path / "tpm.key").write_bytes(HEADER + b"\nAA==\n-----END TSS2 PRIVATE KEY-----\n")
    used = msgspec.structs.replace(flashed, key=key)
    publish_certificate(tmp_path / "identity.pem", used, flashed)
    assert (
        tmp_path / "identity.pem"
    ).read_text() == flashed.key.read_text() + flashed.certificate.read_text()
