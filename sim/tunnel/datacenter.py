"""The data center's end of an emulated tunnel, behind the real listener."""

from __future__ import annotations

import asyncio
import base64
import itertools
import os
from collections.abc import Callable
from datetime import datetime
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.serialization import load_der_public_key
from cryptography.x509.oid import ExtendedKeyUsageOID

from datacenter.sessions.surroundings import EndpointError, TunnelCredentials
from datacenter.tunnel.keys import issue_authority, issue_certificate
from datacenter.tunnel.listener import TunnelListener
from sim.tunnel.box import KEY_BYTES
from sim.tunnel.certificates import HandshakeError, verify_peer
from sim.tunnel.frames import (
    DATA_BYTES_MAX,
    NONCE_BYTES,
    FrameKind,
    TunnelFrameReader,
    frame,
    hello,
    number_of,
    numbered,
    read_hello,
    transcript,
)
from sim.tunnel.keepalive import Keepalive
from wire.openvpn.options import CLIENT_AUTHORITY, SERVER_AUTHORITY

WRAPPED_BYTES: Final = 300
_SIGNATURE_BYTES: Final = 71
"""The most frequent length of a signature in DER."""
CONNECT_AGAIN_SECONDS: Final = (1, 2, 4, 8, 16)
"""Delays of TCP's SYN retransmissions."""


class EmulEndpoint:
    """A `TunnelEndpoint`."""

    def __init__(
        self,
        session: bytes,
        authority: ec.EllipticCurvePrivateKey,
        listener: TunnelListener,
        wall_ns: Callable[[], int],
    ) -> None:
        """`authority` is the key that the offer names; `wall_ns` is the data center's wall clock."""
        self._name, self._authority, self._listener, self._wall_ns = (
            session.hex(),
            authority,
            listener,
            wall_ns,
        )
        self._server_key = ec.generate_private_key(ec.SECP256R1())
        self._wrapped = os.urandom(WRAPPED_BYTES - len(session)) + session
        self._authority_certificate = self._server_certificate = ""
        loop = asyncio.get_running_loop()
        self._up: asyncio.Future[None] = loop.create_future()
        self.ended: asyncio.Future[str] = loop.create_future()
        self.is_fenced = True
        """Whether its firewall is in force."""
        self.is_started = False
        self._line: asyncio.Protocol | None = None
        self._frames = TunnelFrameReader()
        self._nonces = b"", os.urandom(NONCE_BYTES)
        self._keepalive: Keepalive | None = None
        self._numbers = itertools.count(1)
        self._passages: dict[int, _Passage] = {}

    async def start(self, session_key: bytes, until: datetime) -> TunnelCredentials:
        """See `TunnelEndpoint.start`."""
        key = load_der_public_key(session_key)
        assert isinstance(key, ec.EllipticCurvePublicKey)

        def issue(key: ec.EllipticCurvePublicKey, issuer: str, usage: Any) -> str:
            return issue_certificate(self._name, key, issuer, self._authority, until, usage)

        self._authority_certificate = issue_authority(CLIENT_AUTHORITY, self._authority, until)
        server = ExtendedKeyUsageOID.SERVER_AUTH
        self._server_certificate = issue(self._server_key.public_key(), SERVER_AUTHORITY, server)
        client = ""
        while _signature_bytes(client) != _SIGNATURE_BYTES:  # a lab's course depends on the length
            client = issue(key, CLIENT_AUTHORITY, ExtendedKeyUsageOID.CLIENT_AUTH)
        self._listener.expect(self._wrapped, self._accept)
        self.is_started = True
        tls_crypt = base64.b64encode(os.urandom(KEY_BYTES) + self._wrapped).decode()
        return TunnelCredentials(client, issue_authority(SERVER_AUTHORITY, self._authority, until), tls_crypt)

    async def opened(self) -> None:
        """See `TunnelEndpoint.opened`."""
        await asyncio.shield(self._up)

    async def connect(self, protocol: asyncio.Protocol) -> None:
        """See `TunnelEndpoint.connect`."""
        if not self._up.done() or self.ended.done():
            raise ConnectionResetError("the tunnel is not open")
        passage = _Passage(self, next(self._numbers), protocol)
        self._passages[passage.number] = passage
        try:
            await passage.connect()
        except BaseException:
            self._passages.pop(passage.number, None)
            raise

    async def stop(self) -> None:
        """See `TunnelEndpoint.stop`."""
        self._listener.forget(self._wrapped)
        self.lose("stopped")

    def lose(self, reason: str = "lost") -> None:
        """End the tunnel, as when its process is killed."""
        if self.ended.done():
            return
        self.ended.set_result(reason)
        if self._keepalive is not None:
            self._keepalive.stop()
        for passage in list(self._passages.values()):
            passage.lose()
        line, self._line = self._line, None
        if line is not None:
            line.connection_lost(None)
        if not self._up.done():
            self._up.set_exception(EndpointError(reason))
            self._up.exception()  # it may not be awaited

    # the box's connection, which the listener has recognized

    async def _accept(self, line: asyncio.Protocol) -> None:
        self._line = line
        self._keepalive = Keepalive(
            lambda: self.send(frame(FrameKind.PING)), lambda: self.lose("the line is dead")
        )
        line.connection_made(_Inside(self))

    def received(self, data: bytes) -> None:
        """Handle data from the box."""
        if self._keepalive is not None:
            self._keepalive.received()
        for kind, body in self._frames.read(data):
            if not self.ended.done():
                self._handle(kind, body)

    def pause(self) -> None:
        """Pause reading, because the line to the box is full."""
        for passage in self._passages.values():
            passage.pause()

    def resume(self) -> None:
        """Resume reading, because the line to the box is free again."""
        for passage in self._passages.values():
            passage.resume()

    def _handle(self, kind: FrameKind, body: bytes) -> None:
        match kind:
            case FrameKind.RESET:
                self._nonces = body[:NONCE_BYTES], self._nonces[1]
                digest = transcript(*self._nonces, "server")
                signature = self._server_key.sign(digest, ec.ECDSA(Prehashed(hashes.SHA256())))
                server_hello = hello(self._server_certificate.encode(), signature)
                self.send(frame(FrameKind.SERVER, self._nonces[1] + server_hello))
            case FrameKind.CLIENT if not self._up.done():
                self._admit(*read_hello(body))
            case FrameKind.CONNECTED | FrameKind.REFUSED | FrameKind.DATA | FrameKind.CLOSE if (
                self._up.done()
            ):
                number, data = number_of(body)
                if (passage := self._passages.get(number)) is not None:
                    passage.handle(kind, data)

    def _admit(self, certificate: bytes, signature: bytes) -> None:
        proof = transcript(*self._nonces, "client"), signature
        usage = ExtendedKeyUsageOID.CLIENT_AUTH
        try:
            verify_peer(certificate, self._authority_certificate, self._name, usage, proof, self._wall_ns())
        except HandshakeError as error:
            self.lose(str(error))
            return
        self._up.set_result(None)
        self.send(frame(FrameKind.UP))

    def send(self, data: bytes) -> None:
        """Send to the box."""
        if self._line is not None:
            self._line.data_received(data)
            if self._keepalive is not None:
                self._keepalive.sent()

    def forget(self, number: int) -> None:
        """Remove a connection to the instrument that has ended."""
        self._passages.pop(number, None)


class _Inside(asyncio.Transport):
    """The connection between the listener and the endpoint, which are in one process here."""

    def __init__(self, endpoint: EmulEndpoint) -> None:
        super().__init__()
        self._endpoint, self._is_closing = endpoint, False

    def write(self, data: Any) -> None:
        self._endpoint.received(bytes(data))

    def abort(self) -> None:
        if not self._is_closing:
            self._is_closing = True
            asyncio.get_running_loop().call_soon(self._endpoint.lose, "the box has closed the tunnel")

    def is_closing(self) -> bool:
        return self._is_closing

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def pause_reading(self) -> None:
        self._endpoint.pause()

    def resume_reading(self) -> None:
        self._endpoint.resume()


class _Passage(asyncio.Transport):
    """A connection to the instrument, for the user of the session."""

    def __init__(self, endpoint: EmulEndpoint, number: int, protocol: asyncio.Protocol) -> None:
        super().__init__()
        self._endpoint, self.number, self._protocol = endpoint, number, protocol
        self._connected: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._is_closing = self._is_paused = False

    async def connect(self) -> None:
        """Connect, as TCP does: a first packet without an answer is repeated. Raises: OSError."""
        for seconds in CONNECT_AGAIN_SECONDS:
            self._endpoint.send(numbered(FrameKind.CONNECT, self.number))
            await asyncio.wait((self._connected,), timeout=seconds)
            if self._connected.done():
                return self._connected.result()
        raise TimeoutError("the instrument does not answer")

    def handle(self, kind: FrameKind, data: bytes) -> None:
        """Handle a packet of the instrument."""
        match kind:
            case FrameKind.CONNECTED if not self._connected.done():
                self._connected.set_result(None)
                self._protocol.connection_made(self)
            case FrameKind.REFUSED if not self._connected.done():
                self._connected.set_exception(ConnectionRefusedError("the instrument refuses the connection"))
            case FrameKind.DATA if not self._is_closing:
                self._protocol.data_received(data)
            case FrameKind.CLOSE:
                self.lose()

    def lose(self) -> None:
        """Handle the end of the connection."""
        self._endpoint.forget(self.number)
        if not self._connected.done():
            self._connected.set_exception(ConnectionResetError("the tunnel has ended"))
            self._connected.exception()
        elif not self._is_closing:
            self._is_closing = True
            asyncio.get_running_loop().call_soon(self._protocol.connection_lost, None)

    def pause(self) -> None:
        """Pause the protocol's writing."""
        if not self._is_paused and self._connected.done():
            self._is_paused = True
            self._protocol.pause_writing()

    def resume(self) -> None:
        """Resume the protocol's writing."""
        if self._is_paused:
            self._is_paused = False
            self._protocol.resume_writing()

    def write(self, data: Any) -> None:
        if not self._is_closing:
            for start in range(0, len(data), DATA_BYTES_MAX):
                packet = bytes(data[start : start + DATA_BYTES_MAX])
                self._endpoint.send(numbered(FrameKind.DATA, self.number, packet))

    def close(self) -> None:
        self.abort()

    def abort(self) -> None:
        if not self._is_closing:
            self._endpoint.send(numbered(FrameKind.CLOSE, self.number))
            self.lose()

    def is_closing(self) -> bool:
        return self._is_closing

    def pause_reading(self) -> None:
        """Received data is forwarded immediately: the box paces the pictures."""

    def resume_reading(self) -> None:
        pass

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass


def _signature_bytes(certificate: str) -> int:
    return len(x509.load_pem_x509_certificate(certificate.encode()).signature) if certificate else 0
