"""The keys and certificates of one session's tunnel. All are created for this session, and none is reused.

A separate certificate authority for each session makes revocation unnecessary: the credentials of another session are
useless here, regardless of its state. Its key is the one that the offer names.
"""

from __future__ import annotations

import asyncio
import base64
import os
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import BinaryIO, Final, NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_der_public_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from wire.openvpn.options import CLIENT_AUTHORITY, SERVER_AUTHORITY
from wire.openvpn.program import PROGRAM, OpenVpnError

CLOCK_LAG_MAX: Final = timedelta(days=1)
"""Certificates begin this much earlier, because the box's clock may be behind."""
_SERIAL: Final = {None: 1, ExtendedKeyUsageOID.SERVER_AUTH: 2, ExtendedKeyUsageOID.CLIENT_AUTH: 3}
"""An authority issues one certificate of each kind. Numbers and names are short: a person waits for the transfer."""
_KEY_BYTES: Final = 256


@dataclass(frozen=True, slots=True)
class TunnelKeys:
    """The keys of a session's server, and the credentials for the box."""

    session: str
    client_authority: str
    """The CA certificate that the server trusts."""
    server_authority: str
    """The CA certificate that the box trusts."""
    server_certificate: str
    server_key: str
    server_tls_crypt: str
    client_certificate: str
    client_tls_crypt: str
    wrapped_key: bytes
    """The end of the client's first packet, which identifies the session."""


class TlsCryptKeys(NamedTuple):
    """The tls-crypt-v2 keys of a session, as files."""

    server: str
    client: str


async def make_tls_crypt(session: str) -> TlsCryptKeys:
    """Make the tls-crypt-v2 keys of a session; the client key contains the name of the session.

    Raises: OpenVpnError.
    """
    server = await _run("--genkey", "tls-crypt-v2-server")
    return TlsCryptKeys(server, await _client_key(server, session))


def make_keys(
    session: str,
    authority: ec.EllipticCurvePrivateKey,
    public_key: bytes,
    until: datetime,
    tls_crypt: TlsCryptKeys,
) -> TunnelKeys:
    """Make the keys of a session for the box's public key (SubjectPublicKeyInfo, DER), valid until `until`.

    `authority` is the key that the offer of the session names. Raises: ValueError if the public key is not
    on P-256.
    """
    client = load_der_public_key(public_key)
    if not isinstance(client, ec.EllipticCurvePublicKey) or not isinstance(client.curve, ec.SECP256R1):
        raise ValueError("the key of a session must be on the curve P-256")
    server = ec.generate_private_key(ec.SECP256R1())
    return TunnelKeys(
        session,
        issue_authority(CLIENT_AUTHORITY, authority, until),
        issue_authority(SERVER_AUTHORITY, authority, until),
        issue_certificate(
            session, server.public_key(), SERVER_AUTHORITY, authority, until, ExtendedKeyUsageOID.SERVER_AUTH
        ),
        server.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode(),
        tls_crypt.server,
        issue_certificate(
            session, client, CLIENT_AUTHORITY, authority, until, ExtendedKeyUsageOID.CLIENT_AUTH
        ),
        tls_crypt.client,
        _wrapped(tls_crypt.client),
    )


def issue_authority(name: str, key: ec.EllipticCurvePrivateKey, until: datetime) -> str:
    """Return the self-signed CA certificate of an authority, in PEM."""
    return issue_certificate(name, key.public_key(), name, key, until, None)


def issue_certificate(
    name: str,
    key: ec.EllipticCurvePublicKey,
    issuer: str,
    issuer_key: ec.EllipticCurvePrivateKey,
    until: datetime,
    usage: x509.ObjectIdentifier | None,
) -> str:
    """Return a certificate in PEM; without `usage`, a CA certificate."""
    is_authority = usage is None
    builder = (
        x509.CertificateBuilder()
        .subject_name(_name(name))
        .issuer_name(_name(issuer))
        .public_key(key)
        .serial_number(_SERIAL[usage])
        .not_valid_before(min(datetime.now(UTC), until) - CLOCK_LAG_MAX)
        .not_valid_after(until)
        .add_extension(x509.BasicConstraints(ca=is_authority, path_length=0 if is_authority else None), True)
        .add_extension(
            x509.KeyUsage(
                digital_signature=not is_authority,
                key_cert_sign=is_authority,
                crl_sign=False,
                content_commitment=False,
                key_encipherment=False,
                data_encipherment=False,
                key_agreement=False,
                encipher_only=False,
                decipher_only=False,
            ),
            True,
        )
    )
    if usage is not None:
        builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), False)
    return builder.sign(issuer_key, hashes.SHA256()).public_bytes(Encoding.PEM).decode()


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


async def _client_key(server_key: str, session: str) -> str:
    """Return a client's tls-crypt-v2 key, with the session as its metadata."""
    with _memory() as own, _memory() as made:
        own.write(server_key.encode())
        own.flush()
        metadata = base64.b64encode(session.encode()).decode()
        generate = ("--genkey", "tls-crypt-v2-client", _path(made), metadata)
        await _run("--tls-crypt-v2", _path(own), *generate, pass_fds=(own.fileno(), made.fileno()))
        made.seek(0)
        return made.read().decode("ascii")


def _memory() -> BinaryIO:
    """Return a file that exists only in memory."""
    return os.fdopen(os.memfd_create("tls-crypt-v2", os.MFD_CLOEXEC), "w+b")


def _path(file: BinaryIO) -> str:
    return f"/proc/self/fd/{file.fileno()}"


async def _run(*options: str, pass_fds: tuple[int, ...] = ()) -> str:
    """Return the output of OpenVPN with these options. Raises: OpenVpnError."""
    try:
        process = await asyncio.create_subprocess_exec(
            PROGRAM,
            *options,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            pass_fds=pass_fds,
        )
    except OSError as error:
        raise OpenVpnError(f"OpenVPN cannot be started: {error}") from error
    output, _ = await process.communicate()
    text = output.decode("utf-8", "replace").strip()
    if process.returncode != 0:
        raise OpenVpnError(f"OpenVPN made no key: {text}")
    return text


def _wrapped(client_key: str) -> bytes:
    """Return the wrapped key in a client's key file: the bytes after the 256 bytes of the key itself."""
    body = "".join(line for line in client_key.splitlines() if not line.startswith("-----"))
    return base64.b64decode(body, validate=True)[_KEY_BYTES:]
