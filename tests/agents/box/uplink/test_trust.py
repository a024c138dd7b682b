"""The diagnosis of untrusted certificates names the issuer or another problem."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from agents.box.health.audit import AuditLog
from agents.box.uplink.trust import (
    NAME_CHARACTERS_MAX,
    PROBES_BURST,
    DistrustReason,
    TrustDiagnosis,
    describe,
    printable,
)
from hal.indicators import Light
from settings.types import Endpoint, Proxy
from sim.proxies.http import HttpConnectProxy
from sim.proxies.http_auth import DigestVerifier
from sim.proxies.relay import Behavior
from sim.proxies.socks5 import Socks5Proxy
from tests.support.crypto.hierarchy import LOOPBACK, Hierarchy
from wire.dial.dialer import dial
from wire.dial.probe import BEGINNING_BYTES, ProbeResult, probe
from wire.pki.hierarchy import Authority, Validity
from wire.tls.context import Identity, client_context

PORTAL = b"HTTP/1.1 302 Found\r\nLocation: http://login.clinic/\r\nContent-Length: 0\r\n\r\n"
PROXIES: dict[str, Callable[[Behavior], asyncio.Protocol]] = {
    "http": lambda behavior: HttpConnectProxy(behavior, DigestVerifier(("u", "p"))),
    "socks5": lambda behavior: Socks5Proxy(behavior, ("u", "p")),
}


class DiagnosedClient:
    """A diagnosis of untrusted certificates, and all its outputs."""

    def __init__(self, far_end: Endpoint, proxy: Proxy | None = None) -> None:
        self.far_end, self.proxy = far_end, proxy
        self.notes: list[tuple[str, int]] = []
        self.lights: list[Light] = []
        self.messages: list[str] = []
        self.probes = 0
        self.diagnosis = TrustDiagnosis(
            far_end.host,
            self.look,
            cast(AuditLog, self),
            self.lights.append,
            self.messages.append,
        )

    def note(self, event: str, value: int = 0, **_: Any) -> None:
        self.notes.append((event, value))

    async def look(self) -> ProbeResult:
        self.probes += 1
        return await probe(self.far_end, self.proxy)

    async def try_once(self, identity: Identity) -> None:
        """Connect once, as the forwarder does."""
        try:
            connection = await dial(
                self.far_end, client_context(identity), reply_bytes_max=99, proxy=self.proxy
            )
        except OSError as error:
            await self.diagnosis.examine(error)
        else:
            self.diagnosis.trusted()
            connection.abort()


@dataclass
class Server:
    """A server in place of the data center, and the data it has received."""

    port: int
    received: bytes = b""
    client_certificates: int = 0
    connections: int = 0


@asynccontextmanager
async def answering(identity: Identity, *, wants_certificate: bool = False) -> AsyncIterator[Server]:
    """Run a TLS server that records what clients send."""
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(identity.certificate, identity.key)
    if wants_certificate:
        tls.verify_mode = ssl.CERT_OPTIONAL
        tls.load_verify_locations(identity.authorities)
    server = Server(0)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server.connections += 1
        server.client_certificates += bool(writer.get_extra_info("peercert"))
        with suppress(OSError):
            server.received += await reader.read()
        writer.close()

    listener = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    async with listener:
        server.port = listener.sockets[0].getsockname()[1]
        yield server


def diagnosed(pki: Hierarchy, identity: Identity, host: str = "127.0.0.1") -> DiagnosedClient:
    async def run() -> DiagnosedClient:
        async with answering(identity, wants_certificate=True) as server:
            client = DiagnosedClient(Endpoint(host, server.port, "127.0.0.1"))
            await client.try_once(pki.box)
            assert (server.received, server.client_certificates) == (b"", 0)
            return client

    return asyncio.run(run())


def issued_by(authority: Authority, folder: Path, **options: Any) -> Identity:
    arguments: dict[str, Any] = {"hosts": LOOPBACK, "trusts": authority} | options
    return authority.issue(folder, "INGEST", **arguments)


@pytest.fixture
def public(pki: Hierarchy) -> Authority:
    """A CA with the name of the trusted one but another key, which makes it untrusted."""
    return Authority.make("PUBLIC")


def test_an_inspecting_proxy_is_named(pki: Hierarchy, tmp_path: Path) -> None:
    client = diagnosed(pki, issued_by(Authority.make("Clinic Inspection CA"), tmp_path))
    problem = client.diagnosis.problem
    assert problem is not None
    assert problem.kind is DistrustReason.OTHER_ISSUER and problem.issuer == '"Clinic Inspection CA"'
    assert (
        'the certificate was issued by "Clinic Inspection CA" and not by the vendor\'s CA' in problem.message
    )
    assert [event for event, _ in client.notes] == ["far-end-inspected"]
    assert client.lights == [Light.FAST]
    assert problem.message in client.messages[0]


def test_a_certificate_of_the_trusted_ca_for_another_name_is_not_an_inspection(pki: Hierarchy) -> None:
    problem = diagnosed(pki, pki.datacenter, "ingest.example").diagnosis.problem
    assert problem is not None and problem.kind is DistrustReason.WRONG_NAME
    assert 'is for "127.0.0.1", "localhost" and not for ingest.example' in problem.message
    problem = diagnosed(pki, pki.datacenter, "127.0.0.2").diagnosis.problem
    assert problem is not None and problem.kind is DistrustReason.WRONG_NAME


@pytest.mark.parametrize(
    ("days", "kind", "message"),
    [
        (-1, DistrustReason.EXPIRED, "expired on 20"),
        (+1, DistrustReason.NOT_YET_VALID, "is not valid before 20"),
    ],
)
def test_an_expired_certificate_of_the_trusted_ca_is_not_an_inspection(
    pki: Hierarchy, tmp_path: Path, days: int, kind: DistrustReason, message: str
) -> None:
    public = Authority.make("OWN")
    now = datetime.now(UTC)
    validity = Validity(now + timedelta(days=days - 30), now + timedelta(days=-1))
    if days > 0:
        validity = Validity(now + timedelta(days=days), now + timedelta(days=30))
    identity = issued_by(public, tmp_path, validity=validity)
    trusting = Hierarchy(
        **{**vars(pki), "box": Identity(pki.box.certificate, pki.box.key, identity.authorities)}
    )
    problem = diagnosed(trusting, identity).diagnosis.problem
    assert problem is not None and problem.kind is kind and message in problem.message
    assert problem.issuer == '"OWN"'


def self_signed(folder: Path, name: x509.Name) -> Identity:
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), 1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    paths = Identity(folder / "self.crt", folder / "self.key", folder / "self.crt")
    paths.certificate.write_bytes(certificate.public_bytes(Encoding.PEM))
    paths.key.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return paths


def test_a_self_signed_certificate_is_not_an_inspection(pki: Hierarchy, tmp_path: Path) -> None:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "printer")])
    problem = diagnosed(pki, self_signed(tmp_path, name)).diagnosis.problem
    assert problem is not None and problem.kind is DistrustReason.SELF_SIGNED
    assert 'self-signed, by "printer"' in problem.message


HOSTILE = '\x1b[31mOK\r\ndata center connected\x00\u202e\u200b"' + "x" * 9


def test_a_hostile_name_is_sanitized(pki: Hierarchy, tmp_path: Path) -> None:
    attributes = [
        x509.NameAttribute(NameOID.COMMON_NAME, HOSTILE),
        x509.NameAttribute(NameOID.ORGANIZATION_NAME, "y" * 64),
    ]
    client = diagnosed(pki, self_signed(tmp_path, x509.Name(attributes)))
    problem = client.diagnosis.problem
    assert problem is not None
    for text in (problem.message, problem.issuer, *client.messages):
        assert text.isprintable() and len(text) < 400
    assert problem.issuer.count('"') == 2 and len(problem.issuer) <= NAME_CHARACTERS_MAX + 3


def test_names_are_bounded_at_their_limit() -> None:
    assert printable("x" * NAME_CHARACTERS_MAX) == '"' + "x" * NAME_CHARACTERS_MAX + '"'
    assert printable("x" * (NAME_CHARACTERS_MAX + 1)) == '"' + "x" * NAME_CHARACTERS_MAX + '…"'


@pytest.mark.parametrize("certificate", [b"", b"\x30\x00", b"\x30\x82\xff\xff" + b"\x00" * 100, b"A" * 1000])
def test_an_unreadable_certificate_leaves_the_message_of_openssl(certificate: bytes) -> None:
    error = ssl.SSLCertVerificationError("no")
    error.verify_code, error.verify_message = 20, "unable to get local issuer certificate"
    problem = describe(DistrustReason.OTHER_ISSUER, error, ProbeResult(b"", certificate), "h")
    assert "unable to get local issuer certificate" in problem.message and problem.issuer == ""


@asynccontextmanager
async def plain_server(answer: bytes, *, repeat: bool = False) -> AsyncIterator[Server]:
    """Run a server without TLS."""
    server = Server(0)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server.connections += 1
        await reader.read(1)
        try:
            writer.write(answer)
            while repeat:
                writer.write(answer)
                await writer.drain()
        except OSError:
            pass
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as listener:
        server.port = listener.sockets[0].getsockname()[1]
        yield server


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (PORTAL, DistrustReason.PLAIN_HTTP),
        (b"HTTP/1.0 200 OK\r\n\r\n<html>", DistrustReason.PLAIN_HTTP),
        (b"SSH-2.0-x\r\n", None),
    ],
)
def test_a_captive_portal_that_answers_in_plain_http_is_named(
    pki: Hierarchy, answer: bytes, kind: DistrustReason | None
) -> None:
    async def run() -> DiagnosedClient:
        async with plain_server(answer) as server:
            client = DiagnosedClient(Endpoint("127.0.0.1", server.port))
            await client.try_once(pki.box)
            return client

    client = asyncio.run(run())
    problem = client.diagnosis.problem
    assert (problem and problem.kind) == kind
    assert [event for event, _ in client.notes] == (["far-end-plain-http"] if kind else [])


def test_an_endless_response_ends_the_probe(pki: Hierarchy) -> None:
    """The response repeats a TLS record with 16 KiB of handshake data."""
    record = b"\x16\x03\x03\x3f\xff" + b"\x0b\xff\xff\xff" + b"\x00" * (0x3FFF - 4)

    async def run() -> tuple[ProbeResult, int]:
        async with plain_server(record, repeat=True) as server:
            presented = await probe(Endpoint("127.0.0.1", server.port), None)
            return presented, server.connections

    presented, _ = asyncio.run(run())
    assert presented.certificate == b"" and len(presented.beginning) == BEGINNING_BYTES


@pytest.mark.parametrize("kind", PROXIES)
def test_the_problem_is_named_through_a_proxy_too(pki: Hierarchy, tmp_path: Path, kind: str) -> None:
    async def run() -> DiagnosedClient:
        behavior, loop = Behavior(), asyncio.get_running_loop()
        site = await loop.create_server(lambda: PROXIES[kind](behavior), "127.0.0.1", 0)
        async with site, answering(issued_by(Authority.make("Clinic CA"), tmp_path)) as server:
            proxy = Proxy(kind, "127.0.0.1", site.sockets[0].getsockname()[1], "u", "p")  # type: ignore[arg-type]
            client = DiagnosedClient(Endpoint("127.0.0.1", server.port), proxy)
            await client.try_once(pki.box)
            assert behavior.requests == 2, "one of the connection, one of the probe"
            return client

    client = asyncio.run(run())
    assert client.diagnosis.problem is not None
    assert client.diagnosis.problem.issuer == '"Clinic CA"'


def test_probes_are_rare_and_end_with_a_trusted_certificate(pki: Hierarchy, tmp_path: Path) -> None:
    async def run() -> None:
        inspected = issued_by(Authority.make("Clinic CA"), tmp_path)
        async with answering(inspected) as wrong, answering(pki.datacenter) as right:
            client = DiagnosedClient(Endpoint("127.0.0.1", wrong.port))
            for _ in range(3):
                await client.try_once(pki.box)
            assert client.probes == 1 and len(client.notes) == 1, "the problem is already known"
            await client.diagnosis.examine(ConnectionRefusedError())
            assert client.diagnosis.problem is not None, "a refused connection does not clear the problem"
            client.far_end = Endpoint("127.0.0.1", right.port)
            await client.try_once(pki.box)
            assert client.diagnosis.problem is None
            assert client.lights == [Light.FAST, Light.OFF]
            assert [event for event, _ in client.notes] == ["far-end-inspected", "far-end-trusted"]
            client.far_end = Endpoint("127.0.0.1", wrong.port)
            for _ in range(5):
                client.diagnosis.trusted()
                await client.try_once(pki.box)
            assert client.probes == PROBES_BURST
            assert client.diagnosis.problem is not None, "without a probe the problem is named less precisely"
            assert client.diagnosis.problem.kind is DistrustReason.OTHER_ISSUER

    asyncio.run(run())


def test_a_failed_probe_leaves_the_message_of_openssl(pki: Hierarchy, tmp_path: Path) -> None:
    async def run() -> DiagnosedClient:
        with socket.socket() as closed:
            closed.bind(("127.0.0.1", 0))
            client = DiagnosedClient(Endpoint("127.0.0.1", closed.getsockname()[1]))
            error = ssl.SSLCertVerificationError("no")
            error.verify_code, error.verify_message = 19, "self-signed certificate in certificate chain"
            await client.diagnosis.examine(error)
            return client

    problem = asyncio.run(run()).diagnosis.problem
    assert problem is not None and problem.kind is DistrustReason.OTHER_ISSUER
    assert "self-signed certificate in certificate chain" in problem.message


def test_a_certificate_that_is_not_for_servers_is_explained(pki: Hierarchy, tmp_path: Path) -> None:
    public = Authority.make("OWN")
    identity = issued_by(public, tmp_path, usages=(x509.oid.ExtendedKeyUsageOID.CLIENT_AUTH,))
    trusting = Hierarchy(
        **{**vars(pki), "box": Identity(pki.box.certificate, pki.box.key, identity.authorities)}
    )
    problem = diagnosed(trusting, identity).diagnosis.problem
    assert problem is not None and problem.kind is DistrustReason.OTHER
    assert 'the certificate, issued by "OWN", is refused: "' in problem.message
    assert "purpose" in problem.message and problem.issuer == '"OWN"'
