# SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
"""The firewall service's protocol: MessagePack messages, each prefixed by its length in four bytes, big-endian.

    client                            service
    Hello(version) ─────────────────▶
                   ◀───────────────── ConnectionRefusal(reason), then the connection ends; or
                   ◀───────────────── FirewallState at once, at each change and every HEARTBEAT_SECONDS;
                                      Alarm, Repair, OutsideInspection, PortFault and PathsLost as they occur
    OpenPath       ─────────────────▶
                   ◀───────────────── PathAnswer(problem), in the order of the requests
    ClosePath      ─────────────────▶
                   ◀───────────────── PathAnswer(problem)

The service reads its policy from a file, which no client can change. Only the box program may open the paths of
sessions, and only those that the policy permits; they are closed when its connection ends. This module does not load
libnftables, so that any program may import it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from ipaddress import ip_address
from typing import Any, Final, Self, TypeAlias

import msgspec
from msgspec import Struct

from netfw.events import Event
from netfw.policy.policy import Address, Protocol, Service
from netfw.ruleset.sessions import Session

VERSION: Final = 1
HEARTBEAT_SECONDS: Final = 2.0
REQUEST_BYTES_MAX: Final = 1024
"""Maximum size of a message from a client."""
EVENT_BYTES_MAX: Final = 1024 * 1024
"""Maximum size of a message from the service."""
LINES_MAX: Final = 200
"""Maximum length of a list of findings in a message."""
LINE_CHARACTERS_MAX: Final = 1000
_LENGTH: Final = struct.Struct("!I")
LENGTH_BYTES: Final = _LENGTH.size


class Hello(Struct, frozen=True, tag="hello"):
    """The client's first message: its protocol version."""

    version: int = VERSION


class PathRequest(Struct, frozen=True):
    """The path of a session: from a staff address to a service of an instrument at an instrument port."""

    staff: str
    port: int
    instrument: str
    protocol: Protocol
    desktop: int

    @classmethod
    def of(cls, session: Session, **fields: Any) -> Self:
        """Return the request for this path."""
        staff, instrument = str(session.staff), str(session.instrument)
        return cls(staff, session.port, instrument, *session.desktop, **fields)

    def session(self) -> Session:
        """Return the path. Raises: FirewallProtocolError for an invalid address."""
        service = Service(self.protocol, self.desktop)
        return Session(_address(self.staff), self.port, _address(self.instrument), service)


def _address(text: str) -> Address:
    try:
        address = ip_address(text)
    except ValueError as error:
        raise FirewallProtocolError(f"the path of a session is invalid: {error}") from error
    if "%" in text:
        raise FirewallProtocolError(f"the path of a session is invalid: {text} has a zone")
    return address


class OpenPath(PathRequest, frozen=True, tag="open-path"):
    """Opens a path for a limited time in seconds, which the kernel enforces."""

    seconds: int


class ClosePath(PathRequest, frozen=True, tag="close-path"):
    """Closes a path that this connection opened."""


class PathAnswer(Struct, frozen=True, tag="path"):
    """Answers a request: `problem` is why it was not executed; "" if the kernel has executed it."""

    problem: str = ""


class ConnectionRefusal(Struct, frozen=True, tag="refusal"):
    """The service ends the connection for this reason."""

    reason: str


Request: TypeAlias = Hello | OpenPath | ClosePath
Answer: TypeAlias = Event | PathAnswer | ConnectionRefusal


class FirewallProtocolError(Exception):
    """The other side violated the protocol; the message says how."""


def framed(message: Struct) -> bytes:
    """Encode a message with its length prefix."""
    body = msgspec.msgpack.encode(message)
    return _LENGTH.pack(len(body)) + body


def length(header: bytes, bytes_max: int) -> int:
    """Decode a length prefix. Raises: FirewallProtocolError if it exceeds `bytes_max`."""
    size: int = _LENGTH.unpack(header)[0]
    if size > bytes_max:
        raise FirewallProtocolError(
            f"a message of {size} bytes was announced; at most {bytes_max} are allowed"
        )
    return size


def decoded(body: bytes) -> Answer:
    """Decode a message from the service. Raises: FirewallProtocolError."""
    try:
        answer: Answer = _ANSWERS.decode(body)
    except msgspec.DecodeError as error:
        raise FirewallProtocolError(f"the message cannot be read: {error}") from error
    return answer


def decoded_request(body: bytes) -> Request:
    """Decode a message from a client. Raises: FirewallProtocolError."""
    try:
        request: Request = _REQUESTS.decode(body)
    except msgspec.DecodeError as error:
        raise FirewallProtocolError(f"only Hello, OpenPath and ClosePath are accepted: {error}") from error
    return request


_ANSWERS: Final = msgspec.msgpack.Decoder(Answer)
_REQUESTS: Final = msgspec.msgpack.Decoder(Request)


class Frames:
    """Splits a received byte stream into messages."""

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._waiting = bytearray()

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield the messages completed by `data`. Raises: FirewallProtocolError for a length beyond the limit."""
        self._waiting += data
        while len(self._waiting) >= LENGTH_BYTES:
            end = LENGTH_BYTES + length(bytes(self._waiting[:LENGTH_BYTES]), self._bytes_max)
            if len(self._waiting) < end:
                return
            body = bytes(self._waiting[LENGTH_BYTES:end])
            del self._waiting[:end]
            yield body


def bounded(event: Event) -> Event:
    """Return the event with its lists truncated to the maximum length."""
    changes = {
        name: _cut(value) for name in event.__struct_fields__ if type(value := getattr(event, name)) is tuple
    }
    return msgspec.structs.replace(event, **changes) if changes else event


def _cut(lines: tuple[str, ...]) -> tuple[str, ...]:
    first = tuple(line[:LINE_CHARACTERS_MAX] for line in lines[:LINES_MAX])
    omitted = len(lines) - len(first)
    return (*first[:-1], f"and {omitted + 1} more") if omitted else first
