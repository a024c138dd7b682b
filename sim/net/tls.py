"""TLS as asyncio does it, with OpenSSL, for programs that exchange one record at a time.

Four things cost asyncio's protocol as much as the cryptography. It makes room for 256 KiB at each read, though a read
gives no more than one record; it reads until OpenSSL raises that there is nothing more, though an exception is
dearer than asking first; it looks after each read for something to send; and it has the transport copy what came in
into a buffer, though a simulated segment's bytes are there already.
"""

from __future__ import annotations

from asyncio import sslproto
from ssl import SSLWantReadError
from typing import Any, Final

RECORD_BYTES_MAX: Final = 16 * 1024
"""Plaintext of one record (RFC 8446, 5.1)."""


class TlsProtocol(sslproto.SSLProtocol):
    """The TLS layer between a transport and a protocol."""

    max_size = RECORD_BYTES_MAX

    # The names under which asyncio's class keeps these
    _sslobj: Any
    _incoming: Any
    _outgoing: Any
    _app_protocol: Any
    _app_writing_paused: bool
    _ssl_writing_paused: bool
    _transport: Any

    def received(self, data: bytes) -> None:
        """Take bytes from the transport, as through `get_buffer` and `buffer_updated`."""
        self._incoming.write(data)
        self.buffer_updated(0)

    def _process_outgoing(self) -> None:
        if self._ssl_writing_paused or self._app_writing_paused:
            super()._process_outgoing()  # type: ignore[misc]
        elif self._outgoing.pending:
            self._transport.write(self._outgoing.read())

    def _do_read__copied(self) -> None:
        chunks = []
        try:
            chunks.append(self._sslobj.read(RECORD_BYTES_MAX))
            while chunks[-1] and (self._incoming.pending or self._sslobj.pending()):
                chunks.append(self._sslobj.read(RECORD_BYTES_MAX))
        except SSLWantReadError:
            pass
        if data := b"".join(chunks):
            self._app_protocol.data_received(data)
        if chunks and not chunks[-1]:  # the other end's close_notify
            self._call_eof_received()  # type: ignore[attr-defined]
            self._start_shutdown()
