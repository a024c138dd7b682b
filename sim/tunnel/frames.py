"""The protocol of an emulated tunnel: length-prefixed frames, like OpenVPN's packets over TCP."""

from __future__ import annotations

from collections.abc import Iterator
from enum import IntEnum
from hashlib import sha256
from typing import Final

LENGTH_BYTES: Final = 2
NONCE_BYTES: Final = 32
SIGNATURE_BYTES: Final = 80
"""An ECDSA signature in DER has at most 72 bytes; messages are padded."""
HANDSHAKE_BYTES: Final = 1400
"""The length of a certificate with its signature. A handshake of OpenVPN takes about 3.3 kB in each direction,
headers included, and has twice as many packets."""
DATA_BYTES_MAX: Final = 1200


class FrameKind(IntEnum):
    """The first byte of a frame."""

    SERVER = 1
    """The nonce, certificate and signature of the data center's end."""
    CLIENT = 2
    """The certificate and signature of the box."""
    UP = 3
    """The data center's end has accepted the box's certificate."""
    PING = 4
    CONNECT = 5
    """Connect to the instrument. The connection's number follows, as in the frames below."""
    CONNECTED = 6
    REFUSED = 7
    """The instrument cannot be reached."""
    DATA = 8
    CLOSE = 9
    RESET = 10 << 3
    """The box's first packet: its nonce, and its wrapped tls-crypt-v2 key at the end (as OpenVPN's
    P_CONTROL_HARD_RESET_CLIENT_V3)."""


def frame(kind: FrameKind, body: bytes = b"") -> bytes:
    """Return a frame."""
    return (1 + len(body)).to_bytes(LENGTH_BYTES, "big") + bytes((kind,)) + body


def numbered(kind: FrameKind, number: int, data: bytes = b"") -> bytes:
    """Return a frame about a connection."""
    return frame(kind, number.to_bytes(LENGTH_BYTES, "big") + data)


def number_of(body: bytes) -> tuple[int, bytes]:
    """Split a body into the number of the connection and the rest."""
    return int.from_bytes(body[:LENGTH_BYTES], "big"), body[LENGTH_BYTES:]


def hello(certificate: bytes, signature: bytes) -> bytes:
    """Return a certificate (PEM) and a signature, in a fixed length."""
    signature_field = len(signature).to_bytes(1, "big") + signature.ljust(SIGNATURE_BYTES, b"\0")
    return signature_field + certificate.ljust(HANDSHAKE_BYTES, b"\n")


def read_hello(body: bytes) -> tuple[bytes, bytes]:
    """Return the certificate (PEM) and the signature."""
    return body[1 + SIGNATURE_BYTES :], body[1 : 1 + body[0]]


def transcript(client_nonce: bytes, server_nonce: bytes, end: str) -> bytes:
    """Return the digest that an end signs."""
    return sha256(end.encode() + client_nonce + server_nonce).digest()


class TunnelFrameReader:
    """Divides received bytes into frames."""

    def __init__(self) -> None:
        self._received = b""

    def read(self, data: bytes) -> Iterator[tuple[FrameKind, bytes]]:
        """Yield (kind, body) of the frames that are complete."""
        self._received += data
        while len(self._received) >= LENGTH_BYTES:
            end = LENGTH_BYTES + int.from_bytes(self._received[:LENGTH_BYTES], "big")
            if len(self._received) < end:
                return
            body, self._received = self._received[LENGTH_BYTES:end], self._received[end:]
            yield FrameKind(body[0]), body[1:]
