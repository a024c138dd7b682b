"""The settings with which the lab's box uses the site's proxy."""

from __future__ import annotations

from typing import Final, Literal

from settings.types import Proxy
from sim.lab import labfile
from sim.worlds.shared.addresses import PROXY_NAME, PROXY_PORTS

USER: Final = "rap-box"
DOMAIN: Final = "CLINIC"
"""The user's domain, for NTLM and Negotiate."""
PASSWORD: Final = "clinic-proxy"  # noqa: S105 - of a proxy that exists as long as the lab


def client_settings(spec: labfile.LabProxy) -> Proxy:
    """The proxy settings of a client, with user and password if the proxy requires authentication.

    A client sends the password in clear text (Basic) only to a proxy that requires it.
    """
    user, password = ("", "") if spec.auth == "none" else (USER, PASSWORD)
    domain = DOMAIN if spec.auth in ("ntlm", "negotiate") else ""
    basic: Literal["first", "never"] = "first" if spec.auth in ("none", "basic", "password") else "never"
    return Proxy(spec.kind, PROXY_NAME, PROXY_PORTS[spec.kind], user, password, domain, basic)
