"""Generates libreswan's configuration for a site with an IPsec VPN: ipsec.conf(5), ipsec.secrets(5).

IKEv2 only, with algorithms that FIPS 140-3 approves: AES-256-GCM, HMAC-SHA-384 and P-384, or AES-128-GCM,
HMAC-SHA-256 and P-256. Traffic inside the VPN uses a separate interface, on which the firewall permits what it
otherwise permits on the uplink. While the VPN is down, no such traffic passes.
"""

from __future__ import annotations

from typing import Final

from settings.ipsec import INTERFACE, Ipsec
from settings.site import SiteOnBox

CONFIGURATION: Final = "etc/ipsec.d/rap.conf"
SECRETS: Final = "etc/ipsec.d/rap.secrets"
UNIT: Final = "ipsec.service"
IKE: Final = "aes_gcm256-sha2_384-dh20,aes_gcm128-sha2_256-dh19"
ESP: Final = "aes_gcm256,aes_gcm128"
DPD_SECONDS: Final = (15, 60)
"""A gateway that is silent for the first period is probed; after the second, the connection is restarted."""
_WRITTEN_BY: Final = "# Written by /usr/lib/rap/provision from /etc/rap/site.toml; edit that file.\n"


def ipsec_files(site: SiteOnBox) -> dict[str, str]:
    """Return the files, by path; none for a site without a VPN."""
    if site.ipsec is None:
        return {}
    gateway = site.addresses_of(site.ipsec.gateway)[0]
    return {CONFIGURATION: _configuration(site.ipsec, gateway), SECRETS: _secrets(site.ipsec, gateway)}


def _configuration(ipsec: Ipsec, gateway: str) -> str:
    identities = {"leftid": ipsec.identity, "rightid": ipsec.gateway_identity}
    settings = {
        "left": "%defaultroute",
        "right": gateway,
        **{key: f"@{name}" for key, name in identities.items() if name},  # otherwise by address
        "rightsubnets": "{" + " ".join(ipsec.networks) + "}",
        "authby": "secret",
        "ikev2": "insist",
        "ike": IKE,
        "esp": ESP,
        "pfs": "yes",
        "ipsec-interface": INTERFACE.removeprefix("ipsec"),
        "dpddelay": str(DPD_SECONDS[0]),
        "dpdtimeout": str(DPD_SECONDS[1]),
        "dpdaction": "restart",
        "keyingtries": "%forever",
        "auto": "start",
    }
    return f"{_WRITTEN_BY}conn rap\n" + "".join(f"\t{key}={value}\n" for key, value in settings.items())


def _secrets(ipsec: Ipsec, gateway: str) -> str:
    own = f"@{ipsec.identity}" if ipsec.identity else "%any"
    other = f"@{ipsec.gateway_identity}" if ipsec.gateway_identity else gateway
    return f'{_WRITTEN_BY}{own} {other} : PSK "{ipsec.secret}"\n'
