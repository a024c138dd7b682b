"""Negotiated parameters and accepted peers, on real connections over loopback."""

from __future__ import annotations

import asyncio
import gc
import os
import ssl
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.crypto.certificates import Certificates
from tests.support.eventually import eventually
from wire.http.connection import ClientConnection, HttpError, Request, Response, Server, serve
from wire.tls import context as tls
from wire.tls.context import (
    SUITES_TLS12,
    SUITES_TLS13,
    ClientContext,
    Identity,
    client_context,
    client_hello,
    server_context,
)


@dataclass(frozen=True)
class Exchange:
    """The properties of one request and its response."""

    peer: str
    """The name under which the server knew the client."""
    suite: str
    version: str
    resumed: bool


async def listen(identity: Identity) -> Server:
    async def name(request: Request) -> Response:
        return Response(200, request.peer.name.encode())

    return await serve(name, "127.0.0.1", 0, tls=server_context(identity), body_bytes_max=10, now=lambda: 0.0)


async def exchange(
    port: int,
    tls: ssl.SSLContext,
    host: str = "localhost",
    end: Callable[[ClientConnection], None] = ClientConnection.close,
) -> Exchange:
    loop = asyncio.get_running_loop()
    transport, client = await loop.create_connection(
        lambda: ClientConnection(host, 1000), "127.0.0.1", port, ssl=tls, server_hostname=host
    )
    try:
        response = await client.request("GET", "/")
        if isinstance(tls, ClientContext):
            tls.remember(transport, loop.time())
        connection = transport.get_extra_info("ssl_object")
        return Exchange(
            response.body.decode(), connection.cipher()[0], connection.version(), connection.session_reused
        )
    finally:
        end(client)


def exchange_with(server: Identity, *clients: ssl.SSLContext, host: str = "localhost") -> list[Exchange]:
    """Let each client send a request to one server, one after the other; return the results."""

    async def run() -> list[Exchange]:
        listening = await listen(server)
        try:
            return [await exchange(listening.port, client, host) for client in clients]
        finally:
            await listening.close()

    return asyncio.run(run())


@pytest.mark.parametrize(
    ("version", "suite"),
    [
        (ssl.TLSVersion.TLSv1_3, "TLS_AES_128_GCM_SHA256"),
        (ssl.TLSVersion.TLSv1_2, "ECDHE-ECDSA-AES128-GCM-SHA256"),
    ],
)
@pytest.mark.parametrize("server_first", [False, True])
def test_aes_128_is_negotiated_whichever_side_limits_the_version(
    certificates: Certificates, version: ssl.TLSVersion, suite: str, server_first: bool
) -> None:
    client = client_context(certificates.box)
    client.maximum_version = version
    if server_first:  # a client that prefers AES-256
        client.set_ciphers(":".join(reversed(SUITES_TLS12)))
    (exchanged,) = exchange_with(certificates.server, client)
    assert (exchanged.peer, exchanged.suite) == ("RAP-0001", suite)


def test_only_approved_cipher_suites_are_offered(certificates: Certificates) -> None:
    for context in (client_context(certificates.box), server_context(certificates.server)):
        assert {suite["name"] for suite in context.get_ciphers()} == {*SUITES_TLS13, *SUITES_TLS12}
        assert context.minimum_version == ssl.TLSVersion.TLSv1_2


GROUPS, SIGNATURES = 0x000A, 0x000D  # types of extensions: RFC 8446, 4.2


def offered(hello: bytes, extension: int) -> list[int]:
    """Return the 16-bit values in the list of an extension of a ClientHello record."""
    offset = 5 + 4 + 2 + 32  # headers of the record and the message, version, random
    offset += 1 + hello[offset]  # session identifier
    offset += 2 + int.from_bytes(hello[offset : offset + 2], "big")  # suites
    offset += 1 + hello[offset] + 2  # compression methods, length of the extensions
    while offset < len(hello):
        header = hello[offset : offset + 4]
        kind, length = int.from_bytes(header[:2], "big"), int.from_bytes(header[2:], "big")
        body = hello[offset + 4 : offset + 4 + length]
        if kind == extension:
            return [int.from_bytes(body[n : n + 2], "big") for n in range(2, len(body), 2)]
        offset += 4 + length
    raise AssertionError(f"no extension {extension}")


def test_only_approved_groups_and_signatures_are_offered(certificates: Certificates) -> None:
    hello = client_hello(client_context(certificates.box))
    assert offered(hello, GROUPS) == [0x17, 0x18, 0x19]  # P-256, P-384, P-521
    ecdsa, pss, pkcs1 = {0x0403, 0x0503, 0x0603}, {0x0804, 0x0805, 0x0806}, {0x0401, 0x0501, 0x0601}
    assert set(offered(hello, SIGNATURES)) == ecdsa | pss | pkcs1


ONE_GROUP = """
openssl_conf = all
[all]
ssl_conf = ssl
[ssl]
system_default = default
[default]
Groups = {}
"""
CLIENT_OF_ONE_GROUP = """
import ssl, socket, sys
context = ssl.create_default_context(cafile=sys.argv[1])
context.load_cert_chain(sys.argv[2], sys.argv[3])
connection = socket.create_connection(("127.0.0.1", int(sys.argv[4])))
try:
    context.wrap_socket(connection, server_hostname="localhost")
    print("connected")
except OSError:  # TLS errors included
    print("refused")
"""


@pytest.mark.parametrize(("group", "outcome"), [("X25519", "refused"), ("prime256v1", "connected")])
def test_a_server_refuses_a_client_that_offers_no_approved_group(
    certificates: Certificates, tmp_path: Path, group: str, outcome: str
) -> None:
    box = certificates.box
    (configuration := tmp_path / "openssl.cnf").write_text(ONE_GROUP.format(group))

    async def run() -> str:
        server = await listen(certificates.server)
        arguments = [str(argument) for argument in (box.authorities, box.certificate, box.key, server.port)]
        # another process: in this one OpenSSL has the test's configuration
        client = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", CLIENT_OF_ONE_GROUP, *arguments),
            env={**os.environ, "OPENSSL_CONF": str(configuration)},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        printed, _ = await client.communicate()
        await server.close()
        return printed.decode().strip()

    assert asyncio.run(run()) == outcome


def test_a_configuration_without_effect_is_an_error(
    certificates: Certificates, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    text = tls.CONFIGURATION.read_text()
    for line in ("Groups", "Ciphersuites", "system_default"):
        without = tmp_path / f"{line}.cnf"
        without.write_text("".join(x for x in text.splitlines(True) if not x.startswith(line)))
        with monkeypatch.context() as patch:
            patch.setattr(tls, "CONFIGURATION", without)
            tls.load_configuration.cache_clear()
            with pytest.raises(RuntimeError, match=r"has no effect|cannot load"):
                client_context(certificates.box)
    tls.load_configuration.cache_clear()
    client_context(certificates.box)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_resumed_session_still_has_the_peers_certificate(
    certificates: Certificates, version: ssl.TLSVersion
) -> None:
    client = client_context(certificates.box)
    client.maximum_version = version
    exchanged = exchange_with(certificates.server, client, client, client)
    assert [(exchange.resumed, exchange.peer) for exchange in exchanged] == [
        (False, "RAP-0001"),
        (True, "RAP-0001"),
        (True, "RAP-0001"),
    ]


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_session_is_resumed_after_a_connection_without_close_notify(
    certificates: Certificates, version: ssl.TLSVersion
) -> None:
    async def run() -> list[bool]:
        server, client = await listen(certificates.server), client_context(certificates.box)
        client.maximum_version = version
        resumed = []
        for _ in range(3):
            exchanged = await exchange(server.port, client, end=ClientConnection.abort)
            await eventually(lambda: not server.connections)
            await asyncio.sleep(0)
            gc.collect()  # frees the server's end of the connection; OpenSSL treats it as aborted
            resumed.append(exchanged.resumed)
        await server.close()
        return resumed

    assert asyncio.run(run()) == [False, True, True]


def test_a_forgotten_session_is_not_resumed(certificates: Certificates) -> None:
    async def run() -> bool:
        server, client = await listen(certificates.server), client_context(certificates.box)
        await exchange(server.port, client)
        client.forget()
        exchanged = await exchange(server.port, client)
        await server.close()
        return exchanged.resumed

    assert not asyncio.run(run())


def test_an_unknown_session_leads_to_a_full_handshake(certificates: Certificates) -> None:
    client = client_context(certificates.box)
    exchange_with(certificates.server, client)
    (exchanged,) = exchange_with(certificates.server, client)
    assert (exchanged.resumed, exchanged.peer) == (False, "RAP-0001")


@pytest.mark.parametrize("identity", ["expired_box", "stranger"])
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_client_that_is_not_trusted_gets_no_response(
    certificates: Certificates, identity: str, version: ssl.TLSVersion
) -> None:
    client = client_context(getattr(certificates, identity))
    client.maximum_version = version
    with pytest.raises((ssl.SSLError, HttpError, ConnectionError)):
        exchange_with(certificates.server, client)


def test_a_client_without_a_certificate_gets_no_response(certificates: Certificates) -> None:
    without_certificate = ssl.create_default_context(cafile=str(certificates.box.authorities))
    with pytest.raises((ssl.SSLError, HttpError, ConnectionError)):
        exchange_with(certificates.server, without_certificate)


def test_a_client_refuses_a_server_with_an_expired_certificate(certificates: Certificates) -> None:
    with pytest.raises(ssl.SSLCertVerificationError, match="expired"):
        exchange_with(certificates.expired_server, client_context(certificates.box))


def test_a_client_refuses_a_server_of_another_authority(certificates: Certificates) -> None:
    # the certificate is valid, but its authority is not trusted for the data center
    with pytest.raises(ssl.SSLCertVerificationError):
        exchange_with(certificates.stranger, client_context(certificates.box), host="rap-0001")


def test_a_client_refuses_a_server_with_another_name(certificates: Certificates) -> None:
    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        exchange_with(certificates.server, client_context(certificates.box), host="elsewhere.example")


def test_an_obsolete_tls_version_is_refused(certificates: Certificates) -> None:
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.load_verify_locations(certificates.box.authorities)
    client.load_cert_chain(certificates.box.certificate, certificates.box.key)
    client.set_ciphers("DEFAULT:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning):
        client.minimum_version = client.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises((ssl.SSLError, ConnectionError)):
        exchange_with(certificates.server, client)


def test_a_context_of_unusable_files_is_an_error(certificates: Certificates) -> None:
    swapped = Identity(certificates.box.key, certificates.box.certificate, certificates.box.authorities)
    with pytest.raises(ssl.SSLError):
        client_context(swapped)
