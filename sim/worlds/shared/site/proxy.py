"""The settings with which the lab's box uses the site's proxy."""

from __future__ import annotations

from settings.types import Proxy
from sim.lab.labfile import Lab
from sim.proxies.kind import proxy_kind
from sim.worlds.shared.site.addresses import PROXY_NAME


def client_settings(lab: Lab) -> Proxy | None:
    """Return the box's proxy settings, with user and password if the proxy requires them; None without a proxy."""
    spec = lab.uplink.proxy
    return proxy_kind(spec.kind).client_settings(PROXY_NAME, spec.auth) if spec else None
