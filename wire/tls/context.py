"""TLS contexts: mutual authentication, AES-128-GCM with SHA-256 first, FIPS-approved algorithms, resumption.

The `ssl` module lacks two features before Python 3.15, which this module adds:

* The choice of TLS 1.3 suites, key exchange groups and signature algorithms. `wire/tls/openssl.cnf` lists them, and
  OpenSSL applies its section `system_default` to each new context. It is loaded into Python's OpenSSL in addition to
  the system's own configuration, which may select the FIPS provider. The effect is verified.
* Resumption under asyncio, which has no parameter for the session: `ClientContext` offers it on each new
  connection.

The server stores sessions (`OP_NO_TICKET`), so that a ticket is a short identifier instead of the client's whole
certificate chain: a reconnection takes 1 KB less in each direction.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import ssl
import weakref
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

from wire.tls.session import openssl, session_of

SUITES_TLS13: Final = ("TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384")
SUITES_TLS12: Final = (
    "ECDHE-RSA-AES128-GCM-SHA256",
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-AES256-GCM-SHA384",
)
CONFIGURATION: Final = Path(__file__).parent / "openssl.cnf"
_SUPPORTED_GROUPS: Final = bytes.fromhex("000a 0008 0006 0017 0018 0019")
"""The supported_groups extension with only P-256, P-384 and P-521 (RFC 8446, 4.2.7)."""
NO_CHECK_TIME: Final = 0x200000
"""X509_V_FLAG_NO_CHECK_TIME, for which the ssl module has no name."""
SESSIONS_KEPT_MAX: Final = 20 * 1024
"""OpenSSL's SSL_SESSION_CACHE_MAX_SIZE_DEFAULT: sessions that a server context stores for resumption."""
SESSION_SECONDS_MAX: Final = 2 * 3600.0
"""A session older than this is not offered again (RFC 8446 allows a week; the box is stricter)."""


@dataclass(frozen=True, slots=True)
class Identity:
    """The local certificate chain and key, and the trusted CAs, as PEM files."""

    certificate: Path
    key: Path
    authorities: Path


def server_context(identity: Identity, *, checks_dates: bool = True) -> ServerContext:
    """Create a server context that requires client certificates. Raises: OSError or ssl.SSLError (unusable files).

    Without `checks_dates`, certificates outside their validity period are accepted: the program must check them.
    """
    load_configuration()
    context = ServerContext(ssl.PROTOCOL_TLS_SERVER)
    if not checks_dates:
        context.verify_flags |= NO_CHECK_TIME
        context.checks_dates = False
    context.verify_mode = ssl.CERT_REQUIRED
    _configure(context, identity)
    context.options |= ssl.OP_NO_TICKET | ssl.OP_CIPHER_SERVER_PREFERENCE
    context.num_tickets = 1
    return context


def sessions_kept(server: ssl.SSLContext) -> tuple[int, int]:
    """Return how many sessions a server context stores for resumption, and the limit."""
    return server.session_stats()["number"], SESSIONS_KEPT_MAX


def client_context(identity: Identity) -> ClientContext:
    """Create a client context for one server. Raises: OSError or ssl.SSLError (unusable files)."""
    load_configuration()
    context = ClientContext(ssl.PROTOCOL_TLS_CLIENT)
    _configure(context, identity)
    return context


def client_context_ignoring_dates(identity: Identity) -> ClientContext:
    """Create a client context that ignores certificate dates, to request the time. Raises: as `client_context`."""
    context = client_context(identity)
    context.verify_flags |= NO_CHECK_TIME
    context.checks_dates = False
    return context


def unverified_client_context() -> ssl.SSLContext:
    """Create a client context that verifies nothing and has no certificate, to read a server's certificate."""
    load_configuration()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


class ServerContext(ssl.SSLContext):
    """A server context that requires client certificates."""

    checks_dates = True
    """Whether certificates outside their validity period are refused."""


class ClientContext(ssl.SSLContext):
    """A client context that resumes the last session with its server."""

    checks_dates = True
    """Whether certificates outside their validity period are refused."""
    _session: ssl.SSLSession | None = None
    _session_until = 0.0
    _session_of: weakref.ref[object] | None = None
    """A weak reference: the connection's reference to this context is invisible to Python's garbage collector."""

    def remember(self, transport: asyncio.BaseTransport, now: float) -> None:
        """Resume this connection's session from now on; call it after the first response.

        `now` is the event loop's time. In TLS 1.3 the session ticket arrives after the handshake; in TLS 1.2 this
        server sends no ticket, and the session identifier is known immediately. Further calls for the same connection
        have no effect and are cheap.
        """
        connection = transport.get_extra_info("ssl_object")
        if connection is None or connection.context is not self:
            return
        if self._session_of is not None and self._session_of() is connection:
            return
        self._session_of = weakref.ref(connection)
        session = session_of(connection)
        if session is not None and session.id:
            self._session, self._session_until = session, now + SESSION_SECONDS_MAX

    def forget(self) -> None:
        """Make a full handshake the next time, for example because resumption was refused."""
        self._session = None

    def wrap_bio(self, *args: Any, **kwargs: Any) -> ssl.SSLObject:
        """See `ssl.SSLContext.wrap_bio`; also offers the remembered session."""
        if self._session is not None and asyncio.get_running_loop().time() < self._session_until:
            kwargs["session"] = self._session
        return super().wrap_bio(*args, **kwargs)


def _configure(context: ssl.SSLContext, identity: Identity) -> None:
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(":".join(SUITES_TLS12))
    names = [suite["name"] for suite in context.get_ciphers()]
    if tuple(name for name in names if name.startswith("TLS_")) != SUITES_TLS13:
        raise RuntimeError(f"{CONFIGURATION} has no effect: the TLS 1.3 suites are {names}")
    key = identity.key.read_bytes()
    if b"BEGIN TSS2 PRIVATE KEY" in key:
        # imported only here, since most boxes have no such key, and importing it takes as long as importing
        # everything else
        from wire.tls.tpm import load_tpm_key, use_tpm_key

        use_tpm_key(context, identity.certificate, load_tpm_key(key))
    else:
        context.load_cert_chain(identity.certificate, identity.key)
    context.load_verify_locations(identity.authorities)


@cache
def load_configuration() -> None:
    """Load `wire/tls/openssl.cnf` into the ssl module's OpenSSL, for all contexts created from now on.

    Raises: RuntimeError if it has no effect.
    """
    # ctypes, since cffi would parse C at every start, for as long as loading OpenSSL takes
    library = openssl()
    library.CONF_modules_load_file.argtypes = [ctypes.c_char_p, ctypes.c_char_p, ctypes.c_ulong]
    if library.CONF_modules_load_file(bytes(CONFIGURATION), None, 0) != 1:
        raise RuntimeError(f"OpenSSL cannot load {CONFIGURATION}")
    if _SUPPORTED_GROUPS not in client_hello(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)):
        raise RuntimeError(f"{CONFIGURATION} has no effect: other groups are offered")


def client_hello(context: ssl.SSLContext) -> bytes:
    """Return the first record that a client with this context sends (RFC 8446, 4.1.2)."""
    outgoing = ssl.MemoryBIO()
    connection = context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="example.com")
    with contextlib.suppress(ssl.SSLWantReadError):
        connection.do_handshake()
    return outgoing.read()
