# SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
"""Settings of a site whose uplink is an IPsec VPN (IKEv2, RFC 7296) instead of direct connections to port 443."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Network
from typing import Annotated, Final, TypeAlias

from msgspec import Meta

from settings.types import Host, Table, address_of

INTERFACE: Final = "ipsec1"
"""The interface of the inner traffic: libreswan's XFRM interface number 1 (ipsec.conf(5), `ipsec-interface`)."""

VpnIdentity: TypeAlias = Annotated[
    str, Meta(pattern=r"^([A-Za-z0-9][A-Za-z0-9.-]{0,63})?\Z", examples=["vpn.clinic.example"])
]
SharedSecret: TypeAlias = Annotated[
    str,
    Meta(
        pattern=r"^[!#-\[\]-~]{24,128}\Z",
        extra={"secret": True},
        examples=["24-to-128-characters-without-spaces-or-quotation-marks"],
    ),
]
"""24 bytes are half of the key of PRF_HMAC_SHA2_384, the least that libreswan accepts in FIPS mode."""


class Ipsec(Table, frozen=True, kw_only=True):
    """The VPN, through which all of the box's uplink traffic passes."""

    gateway: Host
    """The VPN gateway of the data center, or of the clinic."""
    gateway_identity: VpnIdentity = ""
    """How the gateway identifies itself, if not by its address."""
    identity: VpnIdentity = ""
    """How the box identifies itself, if not by its address."""
    networks: Annotated[list[str], Meta(min_length=1, max_length=16)]
    """The IPv4 networks behind the gateway."""
    secret: SharedSecret
    """The pre-shared key."""


def ipsec_problems(
    ipsec: Ipsec, gateways: list[str], inside: dict[str, list[str]]
) -> Iterator[tuple[str, str]]:
    """Yield (key, message) for each contradiction between a VPN and the other settings of a site.

    `gateways` are the gateway's addresses; `inside` has the addresses that the box connects to, by their keys.
    """
    networks: list[IPv4Network] = []
    for index, text in enumerate(ipsec.networks):
        try:
            networks.append(IPv4Network(text))
        except ValueError as error:
            yield f"ipsec.networks[{index}]", f"{error}; write it like 203.0.113.0/24"
    if not gateways:
        yield (
            "ipsec.gateway",
            f'its addresses are missing; add [addresses] with "{ipsec.gateway}" = ["…"]',
        )
    for address in gateways:
        if _is_in(address, networks):
            yield (
                "ipsec.gateway",
                f"{address} is in `networks`, which are reached through it; remove it from `networks`",
            )
    if len(networks) < len(ipsec.networks):
        return
    for key, addresses in inside.items():
        if outside := [address for address in addresses if not _is_in(address, networks)]:
            yield (
                key,
                f"{', '.join(outside)} is not in ipsec.networks, and the box reaches nothing outside the VPN;"
                " add its network to ipsec.networks",
            )


def _is_in(text: str, networks: list[IPv4Network]) -> bool:
    address = address_of(text)
    return any(address in network for network in networks)
