"""TLS as the box wants it: mutual, AES-128-GCM with SHA-256 first, FIPS-approved suites only, sessions resumed.

Two things the `ssl` module does not offer before Python 3.15 are supplied here:

* The TLS 1.3 suites. `set_ciphers` leaves them alone, and OpenSSL's default puts AES-256 first. They are set on
  the context's own `SSL_CTX`, and read back, so that a change in CPython's layout is an error and not a
  silent AES-256.
* Resumption under asyncio, which has no parameter for the session: `ClientContext` hands it to each new
  connection itself.

The server keeps sessions on its side (`OP_NO_TICKET`), so that a ticket is a short name instead of the client's
whole certificate chain: a reconnect then costs 1 KB less each way.
"""

from __future__ import annotations

import _ssl
import asyncio
import ctypes
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

SUITES_TLS13: Final = ("TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384")
SUITES_TLS12: Final = (
    "ECDHE-RSA-AES128-GCM-SHA256",
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-AES256-GCM-SHA384",
)
SESSION_SECONDS_MAX: Final = 2 * 3600.0
"""A session older than this is not offered again (RFC 8446 allows a week; the box is stricter)."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Who this end is and whom it believes: PEM files of its certificate chain, its key and its authorities."""

    certificate: Path
    key: Path
    authorities: Path


def server_context(identity: Identity) -> ssl.SSLContext:
    """A server's context that demands a client certificate. Raises OSError or ssl.SSLError for unusable files."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.verify_mode = ssl.CERT_REQUIRED
    _configure(context, identity)
    context.options |= ssl.OP_NO_TICKET | ssl.OP_CIPHER_SERVER_PREFERENCE
    context.num_tickets = 1
    return context


def client_context(identity: Identity) -> ClientContext:
    """A client's context for one far end. Raises OSError or ssl.SSLError for unusable files."""
    context = ClientContext(ssl.PROTOCOL_TLS_CLIENT)
    _configure(context, identity)
    return context


class ClientContext(ssl.SSLContext):
    """A client's context that resumes the last session with its one far end."""

    _session: ssl.SSLSession | None = None
    _session_until = 0.0
    _session_of: object = None

    def remember(self, transport: asyncio.BaseTransport, now: float) -> None:
        """Resume this connection's session from now on; call it when the first response has come.

        `now` is the event loop's time. With TLS 1.3 the session's name, its ticket, arrives after the handshake;
        with TLS 1.2 and this server there is never a ticket, and the name is known at once. Further calls for the
        same connection do nothing, and are cheap.
        """
        connection = transport.get_extra_info("ssl_object")
        if connection is None or connection is self._session_of:
            return
        self._session_of = connection
        session = connection.session
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
    _set_tls13_suites(context)
    context.load_cert_chain(identity.certificate, identity.key)
    context.load_verify_locations(identity.authorities)


_openssl = ctypes.CDLL(_ssl.__file__)
"""Through ctypes: cffi would parse C at every start, as long as loading OpenSSL takes."""


def _set_tls13_suites(context: ssl.SSLContext) -> None:
    if hasattr(context, "set_ciphersuites"):
        context.set_ciphersuites(":".join(SUITES_TLS13))
    else:
        # CPython's PySSLContext is an object header followed by its SSL_CTX pointer (3.6 to 3.14)
        pointer = ctypes.c_void_p.from_address(id(context) + object.__basicsize__)
        _openssl.SSL_CTX_set_ciphersuites(pointer, ":".join(SUITES_TLS13).encode())
    names = [suite["name"] for suite in context.get_ciphers()]
    if tuple(name for name in names if name.startswith("TLS_")) != SUITES_TLS13:
        raise RuntimeError(f"this Python's ssl module does not let the TLS 1.3 suites be set: {names}")
