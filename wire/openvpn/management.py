"""The management interface of OpenVPN: messages of the program, and the commands in response.

The interface is lines of text. Asynchronous lines begin with `>`; the others answer commands. Source:
`doc/management-notes.txt` of OpenVPN 2.6.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, TypeAlias

LINE_BYTES_MAX: Final = 16_384
ENVIRONMENT_MAX: Final = 256
"""Maximum number of variables of a client; OpenVPN sends about fifty."""
VERSION: Final = 5
"""Version of the management interface: from 5 on, a request for a signature names the algorithm."""


class ManagementError(Exception):
    """The program has violated the protocol of the interface."""


@dataclass(frozen=True, slots=True)
class Hold:
    """The program waits for `release`, and has opened nothing yet."""


@dataclass(frozen=True, slots=True)
class State:
    """A step of the connection, such as CONNECTED or EXITING, with its reason."""

    name: str
    detail: str


@dataclass(frozen=True, slots=True)
class CertificateRequest:
    """The program requests its own certificate."""


@dataclass(frozen=True, slots=True)
class SignatureRequest:
    """The program requests a signature of a digest by the private key, which it does not have."""

    digest: bytes
    algorithm: str


@dataclass(frozen=True, slots=True)
class ClientRequest:
    """A client with a valid certificate waits for permission; `environment` describes it."""

    client: int
    key: int
    environment: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class ClientLost:
    """A client has disconnected."""

    client: int
    environment: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Failed:
    """The program cannot continue, or refuses a command; `text` is its message."""

    text: str


Event: TypeAlias = Hold | State | CertificateRequest | SignatureRequest | ClientRequest | ClientLost | Failed


class ManagementReader:
    """Reads the lines of the program, in pieces of any size."""

    def __init__(self) -> None:
        self._rest = b""
        self._client: tuple[str, int, int] | None = None
        self._environment: dict[str, str] = {}

    def feed(self, data: bytes) -> list[Event]:
        """Return the events of the complete lines. Raises: ManagementError."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > LINE_BYTES_MAX or any(len(line) > LINE_BYTES_MAX for line in lines):
            raise ManagementError(f"a line is longer than {LINE_BYTES_MAX} bytes")
        events = (self._event(line.rstrip(b"\r").decode("utf-8", "replace")) for line in lines)
        return [event for event in events if event is not None]

    def _event(self, line: str) -> Event | None:
        if line.startswith("ERROR:"):
            return Failed(line.removeprefix("ERROR:").strip())
        if not line.startswith(">"):
            return None
        kind, _, text = line[1:].partition(":")
        match kind:
            case "HOLD":
                return Hold()
            case "STATE":
                _, name, detail, *_ = [*text.split(","), "", "", ""]
                return State(name, detail)
            case "NEED-CERTIFICATE":
                return CertificateRequest()
            case "PK_SIGN":
                return _signature_request(text)
            case "FATAL":
                return Failed(text)
            case "CLIENT":
                return self._client_event(text)
        return None

    def _client_event(self, text: str) -> Event | None:
        kind, _, rest = text.partition(",")
        if kind in ("CONNECT", "REAUTH", "DISCONNECT"):
            numbers = rest.split(",")
            try:
                self._client = kind, int(numbers[0]), int(numbers[1]) if len(numbers) > 1 else 0
            except ValueError:
                raise ManagementError(f"a client without a number: {text!r}") from None
            self._environment = {}
        elif kind == "ENV" and self._client is not None:
            if rest == "END":
                return self._end_client()
            if len(self._environment) == ENVIRONMENT_MAX:
                raise ManagementError(f"a client has more than {ENVIRONMENT_MAX} variables")
            name, _, value = rest.partition("=")
            self._environment[name] = value
        return None

    def _end_client(self) -> Event:
        assert self._client is not None
        (kind, client, key), self._client = self._client, None
        environment = MappingProxyType(self._environment)
        return (
            ClientLost(client, environment)
            if kind == "DISCONNECT"
            else ClientRequest(client, key, environment)
        )


def _signature_request(text: str) -> SignatureRequest:
    encoded, _, algorithm = text.partition(",")
    try:
        return SignatureRequest(base64.b64decode(encoded, validate=True), algorithm)
    except binascii.Error:
        raise ManagementError("the data that the program requests to sign is not base64") from None


def release() -> bytes:
    """Return the command that ends the hold, so that the program continues."""
    return b"hold release\n"


def certificate(pem: str) -> bytes:
    """Return the command that gives the program its certificate."""
    return b"certificate\n" + pem.strip().encode("ascii") + b"\nEND\n"


def signature(signed: bytes) -> bytes:
    """Return the command with the requested signature."""
    return b"pk-sig\n" + base64.b64encode(signed) + b"\nEND\n"


def permit(request: ClientRequest, options: str = "") -> bytes:
    """Return the command that permits a client, with its own options, one per line."""
    own = options.strip() + "\n" if options else ""
    return f"client-auth {request.client} {request.key}\n{own}END\n".encode("ascii")


def deny(request: ClientRequest, reason: str) -> bytes:
    """Return the command that refuses a client; `reason` appears only in OpenVPN's log."""
    quoted = "".join(letter for letter in reason if letter.isalnum() or letter in " -.,")
    return f'client-deny {request.client} {request.key} "{quoted}"\n'.encode("ascii", "replace")
