# SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
"""Types that several settings files share, each defined once: names, numbers, secrets, endpoints and proxies."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Annotated, Final, Literal, TypeAlias

from msgspec import Meta, Struct

from settings.names import host_problem

SOCKS_BYTES_MAX: Final = 255
"""RFC 1929: of a user or password."""


@dataclass(frozen=True, slots=True)
class HostForm:
    """The name or address of a host; with `underscores`, as computers in a Windows domain may be named."""

    underscores: bool = False
    rule: str = "a host's name or address"

    def read(self, given: object) -> str:
        """As given. Raises: ValueError."""
        if not isinstance(given, str):
            raise ValueError("must be a string, the name or address of a host")
        if problem := host_problem(given, underscores=self.underscores):
            raise ValueError(problem)
        return given

    def write(self, value: object) -> object:
        """As it is."""
        return value


@dataclass(frozen=True, slots=True)
class AddressForm:
    """The address of one host, or "" where it may be left out."""

    optional: bool = False
    version: int | None = None

    @property
    def rule(self) -> str:
        """Which addresses."""
        return f"an IPv{self.version} address" if self.version else "an IPv4 or IPv6 address"

    def read(self, given: object) -> str:
        """As given. Raises: ValueError."""
        if given == "" and self.optional:
            return ""
        address = address_of(given) if isinstance(given, str) else None
        if address is None or not is_unicast(address) or self.version not in (None, address.version):
            examples = {4: "192.0.2.1", 6: "2001:db8::1"}
            right = examples.get(self.version or 0, " or ".join(examples.values()))
            raise ValueError(f"is not {self.rule} of a host; write it like {right}")
        return str(given)

    def write(self, value: object) -> object:
        """As it is."""
        return value


def address_of(host: str) -> IPv4Address | IPv6Address | None:
    """A host as an address, if it is one and no name."""
    try:
        return ip_address(host)
    except ValueError:
        return None


def is_unicast(address: IPv4Address | IPv6Address) -> bool:
    """Whether an `ipaddress` address is one that a single machine can have."""
    broadcast = address == IPv4Address("255.255.255.255")
    return not (broadcast or address.is_unspecified or address.is_multicast)


Host: TypeAlias = Annotated[str, HostForm()]
ProxyHost: TypeAlias = Annotated[str, HostForm(underscores=True)]
Address: TypeAlias = Annotated[str, AddressForm()]
Ipv4: TypeAlias = Annotated[str, AddressForm(version=4)]
OptionalIpv4: TypeAlias = Annotated[str, AddressForm(optional=True, version=4)]
OptionalAddress: TypeAlias = Annotated[str, AddressForm(optional=True)]
TcpPort: TypeAlias = Annotated[int, Meta(ge=1, le=65535)]
Serial: TypeAlias = Annotated[str, Meta(pattern=r"^[A-Z0-9][A-Z0-9-]{0,23}\Z", examples=["CHEM-0001"])]
"""The serial number of an instrument or box, which is the common name in its certificate."""
Secret: TypeAlias = Annotated[
    str, Meta(pattern=r"^[^\x00-\x1f\x7f]*\Z", max_length=255, extra={"secret": True}, examples=["…"])
]
"""A user, password or domain, in any script, without control characters. Messages do not repeat its value."""


class Table(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Common form of tables in settings files: nothing unknown in them."""


class Endpoint(Struct, frozen=True, forbid_unknown_fields=True):
    """A TLS server: `host` is the name in its certificate; `address`, if given, makes a DNS lookup unnecessary."""

    host: Host
    port: TcpPort = 443
    address: OptionalAddress = ""


class Proxy(Struct, frozen=True, forbid_unknown_fields=True):
    """A site's proxy; with a `user` it requires authentication (see `wire.dial.proxy_auth`, or RFC 1929)."""

    kind: Literal["http", "socks5"]
    host: ProxyHost
    port: TcpPort
    user: Secret = ""
    password: Secret = ""
    domain: Secret = ""
    """Of the user, for NTLM and Negotiate."""
    basic: Literal["first", "offered", "never"] = "first"
    """When the password may be sent to an HTTP proxy as it is: with the first request, if nothing else is, never."""

    def __post_init__(self) -> None:
        """Refuse what the protocol cannot carry."""
        if self.password and not self.user:
            raise ValueError("`password` needs a `user`; give one, or leave out the password")
        if self.kind == "http" and ":" in self.user:
            raise ValueError(
                "`user` has a colon, which HTTP's authentication cannot carry (RFC 7617); give one without"
            )
        for key, value in (("user", self.user), ("password", self.password)):
            if self.kind == "socks5" and len(value.encode()) > SOCKS_BYTES_MAX:
                raise ValueError(
                    f"`{key}` has {len(value.encode())} bytes in UTF-8;"
                    f" a SOCKS5 proxy takes at most {SOCKS_BYTES_MAX} (RFC 1929)"
                )
