# SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
"""Types shared by several settings files, each defined once: names, numbers, secrets, endpoints and proxies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Annotated, Final, Literal, TypeAlias

from msgspec import Meta, Struct

from settings.form import Form
from settings.names import host_problem

TCP_PORT_MAX: Final = 65535
SOCKS_BYTES_MAX: Final = 255
"""Maximum length of a SOCKS5 user or password in bytes (RFC 1929)."""


@dataclass(frozen=True, slots=True)
class HostForm(Form):
    """A host name or IP address; with `underscores`, also a name of a Windows domain computer."""

    underscores: bool = False

    @property
    def rule(self) -> str:
        """The allowed values, in words."""
        return "a host name or IP address"

    def read(self, given: object) -> str:
        """Return the value unchanged. Raises: ValueError."""
        if not isinstance(given, str):
            raise ValueError("must be a string with a host name or IP address")
        if problem := host_problem(given, underscores=self.underscores):
            raise ValueError(problem)
        return given


@dataclass(frozen=True, slots=True)
class HostAndPortForm(Form):
    """A host and a TCP port, as in a URL; IPv6 addresses are not supported."""

    @property
    def rule(self) -> str:
        """The allowed values, in words."""
        return "host:port, such as ingest.example.com:443"

    def read(self, given: object) -> str:
        """Return the value unchanged. Raises: ValueError."""
        host, _, port = str(given).rpartition(":")
        is_port = port.isascii() and port.isdecimal() and 0 < int(port) <= TCP_PORT_MAX
        if not isinstance(given, str) or not is_port:
            raise ValueError("write a host and a port of 1 to 65535, like ingest.example.com:443")
        if problem := host_problem(host):
            raise ValueError(problem)
        return given


@dataclass(frozen=True, slots=True)
class AddressForm(Form):
    """The IP address of one host; "" is allowed with `optional`."""

    optional: bool = False
    version: int | None = None

    @property
    def rule(self) -> str:
        """The allowed addresses, in words."""
        return f"an IPv{self.version} address" if self.version else "an IPv4 or IPv6 address"

    def read(self, given: object) -> str:
        """Return the value unchanged. Raises: ValueError."""
        if given == "" and self.optional:
            return ""
        address = address_of(given) if isinstance(given, str) else None
        if address is None or not is_unicast(address) or self.version not in (None, address.version):
            examples = {4: "192.0.2.1", 6: "2001:db8::1"}
            example = examples.get(self.version or 0, " or ".join(examples.values()))
            raise ValueError(f"is not {self.rule} of a single host; write it like {example}")
        return str(given)


def address_of(host: str) -> IPv4Address | IPv6Address | None:
    """Parse a host as an IP address; None if it is a name."""
    try:
        return ip_address(host)
    except ValueError:
        return None


def is_unicast(address: IPv4Address | IPv6Address) -> bool:
    """Return whether the address can belong to a single machine: not unspecified, multicast or broadcast."""
    broadcast = address == IPv4Address("255.255.255.255")
    return not (broadcast or address.is_unspecified or address.is_multicast)


Host: TypeAlias = Annotated[str, HostForm()]
HostAndPort: TypeAlias = Annotated[str, HostAndPortForm()]
ProxyHost: TypeAlias = Annotated[str, HostForm(underscores=True)]
Address: TypeAlias = Annotated[str, AddressForm()]
Ipv4: TypeAlias = Annotated[str, AddressForm(version=4)]
OptionalIpv4: TypeAlias = Annotated[str, AddressForm(optional=True, version=4)]
OptionalAddress: TypeAlias = Annotated[str, AddressForm(optional=True)]
TcpPort: TypeAlias = Annotated[int, Meta(ge=1, le=65535)]
PresenceWays: TypeAlias = Annotated[list[Literal["code", "switch", "security-key"]], Meta(min_length=1)]
"""The ways in which a person must prove presence at an instrument before staff get its desktop; all are required."""
SigningKey: TypeAlias = Annotated[
    str, Meta(pattern=r"^[A-Za-z0-9+/]{100,200}={0,2}\Z", examples=["MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE…"])
]
"""A public key (SubjectPublicKeyInfo) in base64."""
Serial: TypeAlias = Annotated[str, Meta(pattern=r"^[A-Z0-9][A-Z0-9-]{0,23}\Z", examples=["CHEM-0001"])]
"""The serial number of an instrument or box; also the common name in its certificate."""
Secret: TypeAlias = Annotated[
    str, Meta(pattern=r"^[^\x00-\x1f\x7f]*\Z", max_length=255, extra={"secret": True}, examples=["…"])
]
"""A user, password or domain: any script, no control characters. Messages do not repeat its value."""


class Table(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Base of tables in settings files: unknown keys are refused."""


class Endpoint(Struct, frozen=True, forbid_unknown_fields=True):
    """A TLS server: `host` is the name in its certificate; with `address`, no DNS lookup is needed."""

    host: Host
    port: TcpPort = 443
    address: OptionalAddress = ""


FipsDemand: TypeAlias = Literal["required", "not-required"]
"""Whether the box works only while FIPS mode (FIPS 140-3) is in force."""
ProxyKind: TypeAlias = Literal["http", "socks5"]
"""A proxy protocol. `wire.dial.proxies` and `sim.proxies` each have a module of this name."""


class SecurityKey(Struct, frozen=True, forbid_unknown_fields=True):
    """A security key (FIDO2) with which a person may permit sessions; the local page generates this entry."""

    id: Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]{8,1366}\Z", examples=["mT3vVqGXkp0"])]
    """The identifier of its credential, in base64url."""
    public_key: SigningKey
    """The public key of its credential, of curve P-256."""


def check_security_keys(ways: Sequence[str], page_name: str | None, keys: Sequence[SecurityKey]) -> None:
    """Raise ValueError if `page_name` is an address, or if the way "security-key" lacks a key or that name."""
    if page_name is not None and address_of(page_name) is not None:
        raise ValueError(f"page_name: {page_name} is an address; browsers use security keys only for names")
    if "security-key" in ways and (page_name is None or not keys):
        raise ValueError("ways: security-key needs `page_name` and at least one [[sessions.security_key]]")


class Proxy(Struct, frozen=True, forbid_unknown_fields=True):
    """A site's proxy. With `user` it requires authentication (HTTP: `wire.dial.proxy_auth`; SOCKS5: RFC 1929)."""

    kind: ProxyKind
    host: ProxyHost
    port: TcpPort
    user: Secret = ""
    password: Secret = ""
    domain: Secret = ""
    """The user's domain, for NTLM and Negotiate."""
    basic: Literal["first", "offered", "never"] = "first"
    """When to send the password in clear text to an HTTP proxy: at once, if no other scheme is offered, or never."""

    def __post_init__(self) -> None:
        """Refuse credentials that the proxy protocol cannot carry."""
        if self.password and not self.user:
            raise ValueError("`password` needs a `user`; add one, or remove the password")
        if self.kind == "http" and ":" in self.user:
            raise ValueError(
                "`user` has a colon, which HTTP Basic authentication cannot carry (RFC 7617); use one without"
            )
        for key, value in (("user", self.user), ("password", self.password)):
            if self.kind == "socks5" and len(value.encode()) > SOCKS_BYTES_MAX:
                raise ValueError(
                    f"`{key}` has {len(value.encode())} bytes in UTF-8;"
                    f" the maximum for SOCKS5 is {SOCKS_BYTES_MAX} (RFC 1929)"
                )
