"""asyncio's TLS protocol (with OpenSSL), with faster paths for programs that exchange one record at a time.

Five steps of asyncio's protocol take as long as the cryptography, and are avoided here. It allocates 256 KiB for each
read, although a read returns at most one record. It reads until OpenSSL raises an exception, although checking for
pending data first is faster. It looks for data to send after each read, and checks its buffer limits after each
write. It queues written data, although OpenSSL accepts it at once. It lets the transport copy received data into a
buffer, although a simulated segment's bytes are in memory already.
"""

from __future__ import annotations

import _ssl
import asyncio
import ssl
from asyncio import sslproto
from collections.abc import Callable
from ssl import SSLWantReadError
from typing import Any, Final

from cryptography import x509

from wire.tls.context import NO_CHECK_TIME, ClientContext, ServerContext

NS: Final = 1_000_000_000
RECORD_BYTES_MAX: Final = 16 * 1024
"""Maximum amount of plaintext in one record (RFC 8446, 5.1)."""
_WRAPPED: Final = sslproto.SSLProtocolState.WRAPPED


class TlsProtocol(sslproto.SSLProtocol):
    """The TLS layer between a transport and a protocol."""

    max_size = RECORD_BYTES_MAX

    # private attributes of asyncio's class
    _sslobj: Any
    _incoming: Any
    _outgoing: Any
    _app_protocol: Any
    _app_protocol_is_buffer: bool
    _app_reading_paused: bool
    _app_writing_paused: bool
    _ssl_writing_paused: bool
    _state: sslproto.SSLProtocolState
    _transport: Any
    _waiter: Any
    _write_backlog: Any

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        app_protocol: asyncio.BaseProtocol,
        context: ssl.SSLContext,
        waiter: asyncio.Future[None] | None,
        *,
        wall_ns: Callable[[], int] | None,
        **parameters: Any,
    ) -> None:
        """`wall_ns` is the clock for the validity of certificates; with None, OpenSSL uses the real time."""
        if isinstance(context, ClientContext | ServerContext) and not context.checks_dates:
            wall_ns = None
        if wall_ns is not None and not context.verify_flags & NO_CHECK_TIME:
            context.verify_flags |= NO_CHECK_TIME
        self._wall_ns = wall_ns
        super().__init__(loop, app_protocol, context, waiter, **parameters)  # type: ignore[arg-type]

    def _on_handshake_complete(self, handshake_exc: BaseException | None) -> None:
        if handshake_exc is None and self._wall_ns is not None and not self._sslobj.session_reused:
            handshake_exc = _date_problem(self._sslobj, self._wall_ns())
        super()._on_handshake_complete(handshake_exc)

    def _wakeup_waiter(self, exc: BaseException | None = None) -> None:
        """Resolve the waiter, unless the transport has done so because of a reset during the handshake."""
        if self._waiter is not None and self._waiter.done():
            self._waiter = None
        super()._wakeup_waiter(exc)

    def received(self, data: bytes) -> None:
        """Process bytes from the transport, as `get_buffer` and `buffer_updated` would."""
        self._incoming.write(data)
        if (
            self._state is not _WRAPPED
            or self._app_reading_paused
            or self._app_protocol_is_buffer
            or self._write_backlog
        ):
            self.buffer_updated(0)
            return
        try:
            self._do_read__copied()
            if self._outgoing.pending:
                self._process_outgoing()
        except Exception as error:
            self._fatal_error(error, "Fatal error on SSL protocol")

    def _write_appdata(self, list_of_data: Any) -> None:
        """Encrypt one record without queueing it; use asyncio's method for everything else."""
        data = list_of_data[0] if len(list_of_data) == 1 else b""
        if self._state is not _WRAPPED or self._write_backlog or not 0 < len(data) <= RECORD_BYTES_MAX:
            super()._write_appdata(list_of_data)
            return
        try:
            # into a memory BIO: writes the whole record, or raises during a key update
            self._sslobj._sslobj.write(data)
        except SSLWantReadError:
            super()._write_appdata(list_of_data)
            return
        except Exception as error:
            self._fatal_error(error, "Fatal error on SSL protocol")
            return
        self._process_outgoing()

    def _process_outgoing(self) -> None:
        if self._ssl_writing_paused or self._app_writing_paused:
            super()._process_outgoing()  # type: ignore[misc]
        elif self._outgoing.pending:
            self._transport.write(self._outgoing.read())

    def _do_read__copied(self) -> None:
        """Read the received records. Each read returns a whole record, so OpenSSL keeps no decrypted data."""
        read, incoming = self._sslobj._sslobj.read, self._incoming
        data = chunk = b""
        is_read = False
        try:
            data = chunk = read(RECORD_BYTES_MAX)
            is_read = True
            while chunk and incoming.pending:
                chunk = read(RECORD_BYTES_MAX)
                data += chunk
        except SSLWantReadError:
            pass
        if data:
            self._app_protocol.data_received(data)
        if is_read and not chunk:  # the peer's close_notify
            self._call_eof_received()  # type: ignore[attr-defined]
            self._start_shutdown()


def _date_problem(connection: ssl.SSLObject, now_ns: int) -> ssl.SSLCertVerificationError | None:
    """Return the error that OpenSSL raises at `now_ns` for the chain's validity dates; None if they are valid."""
    chain = connection._sslobj.get_verified_chain()  # type: ignore[attr-defined]  # public from Python 3.13 on
    for encoded in chain:
        certificate = x509.load_der_x509_certificate(encoded.public_bytes(_ssl.ENCODING_DER))
        if now_ns < certificate.not_valid_before_utc.timestamp() * NS:
            return _verification_error(9, "certificate is not yet valid")
        if now_ns > certificate.not_valid_after_utc.timestamp() * NS:
            return _verification_error(10, "certificate has expired")
    return None


def _verification_error(code: int, message: str) -> ssl.SSLCertVerificationError:
    """Return an error like the ssl module's; the codes are those of X509_verify_cert_error_string(3)."""
    error = ssl.SSLCertVerificationError(
        ssl.SSL_ERROR_SSL, f"[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: {message}"
    )
    error.verify_code, error.verify_message = code, message
    return error
