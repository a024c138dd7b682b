"""TLS as the box needs it: mutual, AES-128-GCM with SHA-256 first, FIPS-approved algorithms only, sessions resumed.

Two things the `ssl` module does not offer before Python 3.15 are supplied here:

* The TLS 1.3 suites, the groups of the key exchange and the signature algorithms. `wire/tls/openssl.cnf` names them,
  and OpenSSL applies its section `system_default` to each new context. It is loaded into the OpenSSL that Python
  uses, beside the system's own configuration, which may select the FIPS provider. What takes effect is read back.
* Resumption under asyncio, which has no parameter for the session: `ClientContext` passes it to each new
  connection itself.

The server keeps sessions on its side (`OP_NO_TICKET`), so that a ticket is a short name instead of the client's
whole certificate chain: a reconnect then costs 1 KB less each way.
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
"""The extension with P-256, P-384 and P-521 and nothing else (RFC 8446, 4.2.7)."""
NO_CHECK_TIME: Final = 0x200000
"""X509_V_FLAG_NO_CHECK_TIME, which the ssl module does not name."""
SESSIONS_KEPT_MAX: Final = 20 * 1024
"""OpenSSL's SSL_SESSION_CACHE_MAX_SIZE_DEFAULT: what a server's context keeps for resumption."""
SESSION_SECONDS_MAX: Final = 2 * 3600.0
"""A session older than this is not offered again (RFC 8446 allows a week; the box is stricter)."""


@dataclass(frozen=True, slots=True)
class Identity:
    """This end's certificate chain and key, and the CAs it trusts, as PEM files."""

    certificate: Path
    key: Path
    authorities: Path


def server_context(identity: Identity) -> ssl.SSLContext:
    """A server's context that demands a client certificate. Raises OSError or ssl.SSLError for unusable files."""
    _load_configuration()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.verify_mode = ssl.CERT_REQUIRED
    _configure(context, identity)
    context.options |= ssl.OP_NO_TICKET | ssl.OP_CIPHER_SERVER_PREFERENCE
    context.num_tickets = 1
    return context


def sessions_kept(server: ssl.SSLContext) -> tuple[int, int]:
    """How many sessions a server's context keeps for resumption, and how many it may."""
    return server.session_stats()["number"], SESSIONS_KEPT_MAX


def client_context(identity: Identity) -> ClientContext:
    """A client's context for one far end. Raises OSError or ssl.SSLError for unusable files."""
    _load_configuration()
    context = ClientContext(ssl.PROTOCOL_TLS_CLIENT)
    _configure(context, identity)
    return context


def undated_client_context(identity: Identity) -> ClientContext:
    """A client's context that ignores the dates of certificates, to ask for the time. Raises as `client_context`."""
    context = client_context(identity)
    context.verify_flags |= NO_CHECK_TIME
    context.checks_dates = False
    return context


def unverified_client_context() -> ssl.SSLContext:
    """A client's context that verifies nothing and has no certificate, only to read what a server presents."""
    _load_configuration()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


class ClientContext(ssl.SSLContext):
    """A client's context that resumes the last session with its one far end."""

    checks_dates = True
    """Whether certificates outside their validity are refused."""
    _session: ssl.SSLSession | None = None
    _session_until = 0.0
    _session_of: weakref.ref[object] | None = None
    """Weakly: the connection refers to this context by a reference that Python's garbage collector cannot follow."""

    def remember(self, transport: asyncio.BaseTransport, now: float) -> None:
        """Resume this connection's session from now on; call it when the first response has come.

        `now` is the event loop's time. With TLS 1.3 the session's name, its ticket, arrives after the handshake;
        with TLS 1.2 and this server there is never a ticket, and the name is known at once. Further calls for the
        same connection do nothing, and are cheap.
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
        """Make a full handshake the next time, for example because the resumed one was refused."""
        self._session = None

    def wrap_bio(self, *args: Any, **kwargs: Any) -> ssl.SSLObject:
        """As in `ssl.SSLContext`, with the remembered session offered."""
        if self._session is not None and asyncio.get_running_loop().time() < self._session_until:
            kwargs["session"] = self._session
        return super().wrap_bio(*args, **kwargs)


def _configure(context: ssl.SSLContext, identity: Identity) -> None:
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(":".join(SUITES_TLS12))
    names = [suite["name"] for suite in context.get_ciphers()]
    if tuple(name for name in names if name.startswith("TLS_")) != SUITES_TLS13:
        raise RuntimeError(f"{CONFIGURATION} has no effect: the TLS 1.3 suites are {names}")
    context.load_cert_chain(identity.certificate, identity.key)
    context.load_verify_locations(identity.authorities)


@cache
def _load_configuration() -> None:
    """Load `wire/tls/openssl.cnf` into the OpenSSL that the ssl module uses; contexts made from now on follow it.

    Raises RuntimeError if it has no effect.
    """
    # through ctypes: cffi would parse C at every start, as long as loading OpenSSL takes
    library = openssl()
    library.CONF_modules_load_file.argtypes = [ctypes.c_char_p, ctypes.c_char_p, ctypes.c_ulong]
    if library.CONF_modules_load_file(bytes(CONFIGURATION), None, 0) != 1:
        raise RuntimeError(f"OpenSSL cannot load {CONFIGURATION}")
    if _SUPPORTED_GROUPS not in client_hello(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)):
        raise RuntimeError(f"{CONFIGURATION} has no effect: other groups are offered")


def client_hello(context: ssl.SSLContext) -> bytes:
    """The first record that a client with this context sends (RFC 8446, 4.1.2)."""
    outgoing = ssl.MemoryBIO()
    connection = context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="example.com")
    with contextlib.suppress(ssl.SSLWantReadError):
        connection.do_handshake()
    return outgoing.read()
